// The module that Workers runs. What the platform has of a request goes to the core as text and bytes; what the core wants to
// read comes from the KV namespace that is bound as MEZZE.
import { Exchange, __wbg_reset_state, headerNames, initSync, readMillis, setVariable, variableNames } from "./index.js";
import module from "./index_bg.wasm";

initSync({ module });
const HEADERS = headerNames().split(" ");
let configured = false;

export default {
  fetch: (request, env) => respond(request, env).catch(recover),
};

async function respond(request, env) {
  if (!configured) {
    configured = true;
    // A secret is a variable here.
    for (const name of variableNames().split(" ")) if (typeof env[name] === "string") setVariable(name, env[name]);
  }
  const { headers } = request;
  let head = `${request.method}\n${request.url}`;
  for (const name of HEADERS) {
    const value = headers.get(name);
    if (value !== null) head += `\n${name}:${value}`;
  }
  const exchange = new Exchange(head);
  const bytesMax = exchange.bodyBytesMax();
  if (bytesMax !== undefined) await readBody(request, exchange, bytesMax);
  for (let reads; (reads = exchange.step(Date.now())) !== undefined; ) await fetchAll(env.MEZZE, reads.split("\n"), exchange);
  for (const line of exchange.log()?.split("\n") ?? []) console.log(line);
  const [status, ...lines] = exchange.head().split("\n");
  const sent = {};
  for (const line of lines) {
    const end = line.indexOf(":");
    sent[line.slice(0, end)] = line.slice(end + 1);
  }
  const content = exchange.content();
  exchange.free();
  return new Response(content.length ? content : null, { status: Number(status), headers: sent });
}

/** Gives the core the request's body, read no further than allowed. */
async function readBody(request, exchange, bytesMax) {
  const announced = request.headers.get("content-length");
  if (Number(announced) > bytesMax) return exchange.bodyTooLarge();
  try {
    if (announced !== null) {
      // No more bytes than that come.
      const body = await request.arrayBuffer();
      return body.byteLength > bytesMax ? exchange.bodyTooLarge() : exchange.body(new Uint8Array(body));
    }
    const chunks = [];
    let bytes = 0;
    for await (const chunk of request.body ?? []) {
      bytes += chunk.length;
      if (bytes > bytesMax) return exchange.bodyTooLarge();
      chunks.push(chunk);
    }
    const body = new Uint8Array(bytes);
    let at = 0;
    for (const chunk of chunks) {
      body.set(chunk, at);
      at += chunk.length;
    }
    exchange.body(body);
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) throw error;
    exchange.bodyUnreadable();
  }
}

/** Reads keys, all at once, and gives the core what came of them; the platform runs six at a time. */
async function fetchAll(store, reads, exchange) {
  let timer;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, readMillis())));
  const found = await Promise.all(reads.map((read) => Promise.race([fetchOne(store, read), late])));
  clearTimeout(timer);
  for (const value of found) {
    if (value === undefined) exchange.late();
    else if (value === null) exchange.missing();
    else if (typeof value === "string") exchange.failed(value);
    else exchange.found(new Uint8Array(value));
  }
}

/** A value, `null` where there is none, or what the store says of its failure. */
async function fetchOne(store, read) {
  if (store === undefined) return "no KV namespace is bound as MEZZE";
  const [seconds, key] = read.split(" ");
  try {
    return await store.get(key, { type: "arrayBuffer", cacheTtl: Number(seconds) });
  } catch (error) {
    return String(error);
  }
}

/** After a trap the instance is not to be relied on; the next request has a new one. */
function recover(error) {
  if (error instanceof WebAssembly.RuntimeError) {
    __wbg_reset_state();
    configured = false;
  }
  throw error;
}
