// Answers one request of each case with the bundle for browsers, here in Node: node trust.mjs BUNDLE CASES
// A case has keys with values in base64, whom to trust, a body and an epoch; prints a JSON line for each.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [bundle, casesFile] = process.argv.slice(2);
const { FeatureStore } = await import(pathToFileURL(bundle + "/mezze.js"));
for (const { keys, trust, body, seen } of JSON.parse(readFileSync(casesFile))) {
  const fetch = async (url) => {
    const value = keys[url.slice("memory:/".length)];
    if (value === undefined) return { ok: false };
    return { ok: true, arrayBuffer: async () => Uint8Array.from(Buffer.from(value, "base64")).buffer };
  };
  try {
    const store = await FeatureStore.open("memory:/", { fetch, trust });
    const { body: bytes, snapshot } = await store.answer(new TextEncoder().encode(body), { epoch: BigInt(seen) });
    console.log(JSON.stringify({ status: 200, said: new TextDecoder().decode(bytes), epoch: Number(snapshot.epoch) }));
  } catch (error) {
    console.log(JSON.stringify({ status: error.status ?? 0, said: error.message }));
  }
}
