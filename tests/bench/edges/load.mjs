// What the benchmarks of the edges share: a client, a key-value store, runtimes, and the processor time that these take.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import http from "node:http";
import { connect, createServer } from "node:net";
import { homedir } from "node:os";
import { join, relative } from "node:path";
import { createInterface } from "node:readline";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";

/** One connection that is kept. It costs less than node:http's, whose own time would hide a difference of the servers. */
export class Connection {
  #socket;
  #received = Buffer.alloc(0);
  #waiting;

  static async to(port) {
    const connection = new Connection();
    const socket = connect(port, "127.0.0.1");
    connection.#socket = socket;
    socket.setNoDelay(true);
    await once(socket, "connect");
    socket.on("data", (bytes) => {
      connection.#received = connection.#received.length ? Buffer.concat([connection.#received, bytes]) : bytes;
      const response = take(connection.#received);
      if (response) {
        connection.#received = connection.#received.subarray(response.end);
        connection.#waiting.resolve(response);
      }
    });
    const failed = (error) => connection.#waiting?.reject(error ?? new Error("the connection was closed"));
    socket.on("error", failed).on("close", () => failed());
    return connection;
  }

  /** Sends the bytes of a request. One at a time. */
  ask(request) {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#socket.write(request);
    });
  }

  close() {
    this.#socket.destroy();
  }
}

/** The first response in these bytes, if it is complete. */
function take(bytes) {
  const headEnd = bytes.indexOf("\r\n\r\n");
  if (headEnd < 0) return;
  const head = bytes.toString("latin1", 0, headEnd).toLowerCase();
  const status = Number(head.slice(9, 12));
  const length = /\r\ncontent-length: *(\d+)/.exec(head);
  let at = headEnd + 4;
  if (length) {
    const end = at + Number(length[1]);
    return bytes.length < end ? undefined : { status, body: bytes.subarray(at, end), end };
  }
  if (!head.includes("\r\ntransfer-encoding: chunked")) throw new Error(`a response without a length: ${head}`);
  const parts = [];
  for (;;) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) return;
    const size = parseInt(bytes.toString("latin1", at, lineEnd), 16);
    const next = lineEnd + 2 + size + 2;
    if (bytes.length < next) return;
    if (size === 0) return { status, body: Buffer.concat(parts), end: next };
    parts.push(bytes.subarray(lineEnd + 2, lineEnd + 2 + size));
    at = next;
  }
}

/** The bytes of a POST. */
export function post(path, body, type = "application/json") {
  const head = `POST ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n`;
  return Buffer.from(head + body);
}

/** A key-value store over the protocol of workerd's KV bindings, on a thread of its own. */
export class KeyValueStore {
  #counts = new BigInt64Array(new SharedArrayBuffer(16));
  #worker;

  /** `values` by key; every answer waits for `delay` milliseconds. */
  static async start(values, delay = 0) {
    const store = new KeyValueStore();
    const data = { keyValueStore: true, values, delay, counts: store.#counts };
    store.#worker = new Worker(new URL(import.meta.url), { workerData: data });
    [store.port] = await once(store.#worker, "message");
    return store;
  }

  /** Reads and bytes since the start. */
  counts() {
    return { reads: Number(Atomics.load(this.#counts, 0)), bytes: Number(Atomics.load(this.#counts, 1)) };
  }

  async stop() {
    await this.#worker.terminate();
  }
}

function serveKeys() {
  const { values, delay, counts } = workerData;
  const answer = (response, status, body) => {
    Atomics.add(counts, 1, BigInt(body.length));
    const send = () => response.writeHead(status, { "content-length": body.length }).end(body);
    if (delay) setTimeout(send, delay);
    else send();
  };
  const server = http.createServer(async (request, response) => {
    Atomics.add(counts, 0, 1n);
    const path = request.url.split("?")[0];
    if (path === "/bulk/get") {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      const { keys } = JSON.parse(Buffer.concat(chunks));
      const found = keys.map((key) => [key, values.has(key) ? Buffer.from(values.get(key)).toString("latin1") : null]);
      return answer(response, 200, Buffer.from(JSON.stringify(Object.fromEntries(found))));
    }
    const value = values.get(decodeURIComponent(path.slice(1)));
    answer(response, value ? 200 : 404, value ?? Buffer.alloc(0));
  });
  server.keepAliveTimeout = 0;
  server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port));
}

/** The files below a folder, by their path. */
export function filesOf(folder) {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(files.map((entry) => join(entry.parentPath ?? entry.path, entry.name)).map((path) => [relative(folder, path), readFileSync(path)]));
}

const TOOLS = process.env.MEZZE_TOOLS ?? join(homedir(), ".cache/mezze/tools");

export const WORKERD = "node_modules/@cloudflare/workerd-linux-64/bin/workerd";

/** A program that `tests/run` has installed. */
export function tool(path) {
  const program = join(TOOLS, path);
  return existsSync(program) ? program : undefined;
}

/** A runtime under way. */
class Running {
  constructor(child, port) {
    this.child = child;
    this.port = port;
  }

  /** Nanoseconds of the processor that its threads have had. */
  cpuNanos() {
    const tasks = `/proc/${this.child.pid}/task`;
    const nanosOf = (task) => Number(readFileSync(`${tasks}/${task}/schedstat`, "latin1").split(" ")[0]);
    let nanos = 0;
    for (const task of readdirSync(tasks)) {
      // A thread may end meanwhile.
      try { nanos += nanosOf(task); } catch { /* It has ended. */ }
    }
    return nanos;
  }

  async stop() {
    const ended = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await ended;
  }
}

async function firstLine(child) {
  for await (const line of createInterface({ input: child.stdout })) return line;
  throw new Error(`${child.spawnfile} has ended`);
}

/** workerd, with the modules of a folder. */
export async function startWorkerd(folder, { kv, variables = {}, name = "config" } = {}) {
  const kinds = { js: "esModule", wasm: "wasm" };
  const modules = readdirSync(folder).filter((file) => kinds[file.split(".").pop()]);
  // The first is the one that Workers runs.
  modules.sort((a, b) => (b === "worker.js") - (a === "worker.js"));
  const texts = Object.entries(variables).map(([key, value]) => `(name = "${key}", text = "${value}")`);
  const bindings = [...(kv ? ['(name = "MEZZE", kvNamespace = "kv")'] : []), ...texts];
  const services = ['(name = "main", worker = .app)', ...(kv ? [`(name = "kv", external = (address = "127.0.0.1:${kv.port}", http = ()))`] : [])];
  writeFileSync(join(folder, `${name}.capnp`), `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [ ${services.join(", ")} ],
  sockets = [ (name = "http", address = "127.0.0.1:0", http = (), service = "main") ],
);
const app :Workerd.Worker = (
  modules = [ ${modules.map((file) => `(name = "${file}", ${kinds[file.split(".").pop()]} = embed "${file}")`).join(", ")} ],
  bindings = [ ${bindings.join(", ")} ],
  compatibilityDate = "2026-04-01",
);
`);
  const child = spawn(tool(WORKERD), ["serve", `${name}.capnp`, "--control-fd=1"], { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
  return new Running(child, JSON.parse(await firstLine(child)).port);
}

/** Viceroy, with the module of a folder; its store is what it starts with. */
export async function startViceroy(folder, { values, variables = {}, name = "config" } = {}) {
  let config = 'manifest_version = 3\nname = "app"\nlanguage = "other"\n[local_server]\n';
  config += '[local_server.config_stores.mezze]\nformat = "inline-toml"\n[local_server.config_stores.mezze.contents]\n';
  for (const [key, value] of Object.entries(variables)) config += `${key} = "${value}"\n`;
  config += "[local_server.kv_stores]\n";
  if (values) {
    const stored = join(folder, `${name}-store`);
    mkdirSync(stored, { recursive: true });
    let number = 0;
    for (const [key, value] of values) {
      const file = join(stored, String(number++));
      writeFileSync(file, value);
      config += `[[local_server.kv_stores.mezze]]\nkey = "${key}"\nfile = "${file}"\n`;
    }
  }
  writeFileSync(join(folder, `${name}.toml`), config);
  const port = await freePort();
  const child = spawn(tool("bin/viceroy"), ["serve", "--addr", `127.0.0.1:${port}`, "-C", `${name}.toml`, "mezze.wasm"], { cwd: folder, stdio: "ignore" });
  // It does not say when it listens.
  for (;;) {
    if (child.exitCode !== null) throw new Error("Viceroy did not start");
    try {
      (await Connection.to(port)).close();
      return new Running(child, port);
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }
}

/** The test host for Spin, with the component of a folder. */
export async function startSpin(folder, { kv, variables = {} } = {}) {
  const set = Object.entries(variables).map(([key, value]) => [`SPIN_VARIABLE_${key}`, value]);
  const options = ["up", "--from", folder, "--listen", "127.0.0.1:0", ...(kv ? ["--kv", `127.0.0.1:${kv.port}`] : [])];
  const child = spawn(tool("bin/spin-host"), options, { env: { ...process.env, ...Object.fromEntries(set) }, stdio: ["ignore", "pipe", "ignore"] });
  const port = Number(/:(\d+)/.exec((await firstLine(child)).split("//")[1])[1]);
  child.stdout.resume();
  return new Running(child, port);
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** Sends requests one after the other, or several at once, and says how long each took. */
export async function load(running, requests, connections = 1) {
  const open = await Promise.all(Array.from({ length: connections }, () => Connection.to(running.port)));
  // The connection's own start is no request's.
  await Promise.all(open.map((connection) => connection.ask(requests[0])));
  const micros = [];
  const statuses = new Map();
  let bytes = 0;
  let next = 0;
  const cpuBefore = running.cpuNanos();
  const start = process.hrtime.bigint();
  await Promise.all(open.map(async (connection) => {
    while (next < requests.length) {
      const request = requests[next++];
      const asked = process.hrtime.bigint();
      const { status, body } = await connection.ask(request);
      micros.push(Number(process.hrtime.bigint() - asked) / 1000);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      bytes += body.length;
    }
  }));
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  const cpuMicros = (running.cpuNanos() - cpuBefore) / 1000 / requests.length;
  for (const connection of open) connection.close();
  micros.sort((a, b) => a - b);
  return { p50: at(micros, 0.5), p99: at(micros, 0.99), perSecond: requests.length / seconds, cpuMicros, bytes: bytes / requests.length, statuses };
}

/** What is at this share of sorted numbers. */
const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];

export function median(numbers) {
  return at([...numbers].sort((a, b) => a - b), 0.5);
}

// Last, since a module's own values are made in their order.
if (!isMainThread && workerData?.keyValueStore) serveKeys();
