// Measures in workerd whether pages are read better one by one, as bytes, or many at once: Workers KV gives many at once only as
// text, so they have to be in base64, a third more bytes and a decoding.
//
//   node bulk.mjs [--json FILE] [--blocks 5]
//
// The platform runs six reads of a request at a time, workerd does not; "by six" holds to it in the worker itself.
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KeyValueStore, WORKERD, load, median, startWorkerd, tool } from "./load.mjs";

const options = { blocks: "5" };
for (let at = 2; at < process.argv.length; at += 2) options[process.argv[at].replace(/^--/, "")] = process.argv[at + 1];
const blocks = Number(options.blocks);
if (!tool(WORKERD)) {
  console.log(`bulk: not measured, ${WORKERD} is not there`);
  process.exit();
}
const PAGE_KIBS = [8, 16, 32, 64];
const PAGE_COUNTS = [1, 4, 16, 64];
/** What an answer of the store waits for. */
const DELAYS_MILLIS = [0, 5];

const WORKER = `
const keys = (kind, kib, count) => Array.from({ length: count }, (_, number) => kind + "/" + kib + "/" + number);
const read = (env, key) => env.MEZZE.get(key, { type: "arrayBuffer", cacheTtl: 31536000 });
const ways = {
  single: (env, kib, count) => Promise.all(keys("p", kib, count).map((key) => read(env, key))),
  async six(env, kib, count) {
    const wanted = keys("p", kib, count);
    const found = [];
    await Promise.all(Array.from({ length: 6 }, async () => {
      while (wanted.length) found.push(await read(env, wanted.pop()));
    }));
    return found;
  },
  async atob(env, kib, count) {
    const found = await env.MEZZE.get(keys("b", kib, count), { type: "text", cacheTtl: 31536000 });
    return [...found.values()].map((text) => {
      const letters = atob(text);
      const bytes = new Uint8Array(letters.length);
      for (let at = 0; at < letters.length; at++) bytes[at] = letters.charCodeAt(at);
      return bytes;
    });
  },
  async fromBase64(env, kib, count) {
    const found = await env.MEZZE.get(keys("b", kib, count), { type: "text", cacheTtl: 31536000 });
    return [...found.values()].map((text) => Uint8Array.fromBase64(text));
  },
};
export default {
  async fetch(request, env) {
    const [, way, kib, count] = new URL(request.url).pathname.split("/");
    const pages = await ways[way](env, Number(kib), Number(count));
    return new Response(String(pages.reduce((sum, page) => sum + page.byteLength, 0)));
  },
};
`;

const values = new Map();
for (const kib of PAGE_KIBS) {
  for (let number = 0; number < Math.max(...PAGE_COUNTS); number++) {
    // Pages are compressed: their bytes look like these.
    const page = randomBytes(kib * 1024);
    values.set(`p/${kib}/${number}`, page);
    values.set(`b/${kib}/${number}`, Buffer.from(page.toString("base64")));
  }
}

const WAYS = ["single", "six", "atob", "fromBase64"];
const work = mkdtempSync(join(tmpdir(), "mezze-bulk-"));
const results = [];
try {
  writeFileSync(join(work, "worker.js"), WORKER);
  for (const delay of DELAYS_MILLIS) {
    const kv = await KeyValueStore.start(values, delay);
    const running = await startWorkerd(work, { kv, name: `delay-${delay}` });
    for (const kib of PAGE_KIBS) {
      for (const count of PAGE_COUNTS) {
        process.stderr.write(`delay ${delay} ms, ${count} pages of ${kib} KiB\n`);
        const requests = Array(delay ? 20 : Math.max(20, Math.min(200, Math.floor(6400 / (count * kib))))).fill(0);
        const found = Object.fromEntries(WAYS.map((way) => [way, []]));
        for (let block = 0; block <= blocks; block++) {
          for (const way of block % 2 ? WAYS : [...WAYS].reverse()) {
            const before = kv.counts();
            const request = Buffer.from(`GET /${way}/${kib}/${count} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n`);
            const result = await load(running, requests.map(() => request));
            if (!result.statuses.has(200) || result.statuses.size > 1) throw new Error(`${way} of ${count} pages has failed`);
            result.readBytes = (kv.counts().bytes - before.bytes) / (requests.length + 1);
            // The first is for warming up.
            if (block) found[way].push(result);
          }
        }
        for (const way of WAYS) {
          const of = (field) => median(found[way].map((result) => result[field]));
          results.push({ delay, kib, count, way, p50: of("p50"), p99: of("p99"), cpuMicros: of("cpuMicros"), readBytes: of("readBytes") });
        }
      }
    }
    await running.stop();
    await kv.stop();
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}

const whole = (number) => Math.round(number).toLocaleString("en");
for (const delay of DELAYS_MILLIS) {
  console.log(`\n### Every answer of the store after ${delay} ms: µs of a request at p50, and of workerd's CPU\n`);
  console.log("| page | pages | one by one | by six | bulk, `atob` | bulk, `fromBase64` | CPU: one by one | bulk, `atob` | bulk, `fromBase64` | bytes: one by one | bulk |");
  console.log(`|${" --- |".repeat(11)}`);
  for (const kib of PAGE_KIBS) {
    for (const count of PAGE_COUNTS) {
      const of = Object.fromEntries(results.filter((one) => one.delay === delay && one.kib === kib && one.count === count).map((one) => [one.way, one]));
      const cells = [`${kib} KiB`, count, ...WAYS.map((way) => whole(of[way].p50)), ...["single", "atob", "fromBase64"].map((way) => whole(of[way].cpuMicros)), whole(of.single.readBytes), whole(of.atob.readBytes)];
      console.log(`| ${cells.join(" | ")} |`);
    }
  }
}
if (options.json) writeFileSync(options.json, `${JSON.stringify(results, null, 1)}\n`);
