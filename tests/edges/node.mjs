// Answers requests with the bundle for browsers, here in Node: node node.mjs BUNDLE KEYS REQUESTS
// KEYS is JSON of key to value in base64, REQUESTS a JSON list of bodies; prints a JSON line for each.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [bundle, keysFile, requestsFile] = process.argv.slice(2);
const { FeatureStore } = await import(pathToFileURL(bundle + "/mezze.js"));
const keys = JSON.parse(readFileSync(keysFile));
const fetch = async (url) => {
  const value = keys[url.slice("memory:/".length)];
  if (value === undefined) return { ok: false };
  return { ok: true, arrayBuffer: async () => Uint8Array.from(Buffer.from(value, "base64")).buffer };
};
const store = await FeatureStore.open("memory:/", { fetch });
const answer = async (body) => {
  try {
    const { body: bytes, snapshot, stepsBack } = await store.answer(new TextEncoder().encode(body));
    return { status: 200, said: new TextDecoder().decode(bytes), epoch: Number(snapshot.epoch), stepsBack };
  } catch (error) {
    return { status: error.status ?? 0, said: error.message };
  }
};
// Many at once: they must not take each other's pages.
for (const answered of await Promise.all(JSON.parse(readFileSync(requestsFile)).map(answer))) console.log(JSON.stringify(answered));
