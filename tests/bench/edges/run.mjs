// Measures Mezze's bundles for the edges beside an app that does nothing, in the same runtimes, taking turns. `run` calls it.
//
//   node run.mjs --bundles DIR --empty DIR --keys DIR [--json FILE] [--hosts workerd,viceroy,spin] [--blocks 5] [--requests 300]
//                [--page-bytes 8192,16384]
//
// `bundles` and `empty` have folders cloudflare, fastly and spin; `keys` one a page size, as the example `keys` writes them.
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { Connection, KeyValueStore, WORKERD, filesOf, load, median, post, startSpin, startViceroy, startWorkerd, tool } from "./load.mjs";

const options = { hosts: "workerd,viceroy,spin", blocks: "5", requests: "300", "page-bytes": "8192,16384,32768,65536" };
for (let at = 2; at < process.argv.length; at += 2) options[process.argv[at].replace(/^--/, "")] = process.argv[at + 1];
const blocks = Number(options.blocks);
const requestCount = Number(options.requests);
const ENTITIES = 100_000;
const ENTITY_COUNTS = [1, 10, 100];
const CONNECTIONS = 8;
/** So small that most pages are not in memory: a tenth of them all, or less. */
const SMALL_CACHE_BYTES = 256 * 1024;
const RATIO_MAX = 1.3;

const HOSTS = {
  workerd: { target: "cloudflare", start: startWorkerd, program: WORKERD },
  viceroy: { target: "fastly", start: startViceroy, program: "bin/viceroy" },
  spin: { target: "spin", start: startSpin, program: "bin/spin-host" },
};

/** The same requests in every run. */
function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const features = Array.from({ length: 10 }, (_, number) => `activity:f${number}`);

function requestsFor(entityCount, seed) {
  const next = random(seed);
  return Array.from({ length: requestCount }, () => {
    const users = Array.from({ length: entityCount }, () => Math.floor(next() * ENTITIES));
    return post("/get-online-features", JSON.stringify({ features, entities: { user_id: users } }));
  });
}

/** Copies of a bundle, since each start writes its configuration into the folder. */
const work = mkdtempSync(join(tmpdir(), "mezze-edges-"));
function copyOf(folder, name) {
  const copy = join(work, name);
  rmSync(copy, { recursive: true, force: true });
  cpSync(folder, copy, { recursive: true });
  return copy;
}

/** From the start of the process to the end of its first response, and of that alone the request. */
async function cold(start, request) {
  const started = process.hrtime.bigint();
  const running = await start();
  const connection = await Connection.to(running.port);
  const asked = process.hrtime.bigint();
  const { status } = await connection.ask(request);
  const answered = process.hrtime.bigint();
  connection.close();
  await running.stop();
  if (status !== 200) throw new Error(`the first response has status ${status}`);
  return { process: Number(answered - started) / 1e6, request: Number(answered - asked) / 1e6 };
}

/** The three apps take turns, block by block; every figure is the median of its blocks, every ratio that of blocks side by side. */
async function compare(apps, kv, entityCount, connections) {
  const names = Object.keys(apps);
  const found = Object.fromEntries(names.map((name) => [name, []]));
  for (let block = 0; block < blocks; block++) {
    const requests = requestsFor(entityCount, 1000 + block);
    for (const name of block % 2 ? [...names].reverse() : names) {
      const before = kv?.counts();
      const result = await load(apps[name], requests, connections);
      if (result.statuses.size !== 1 || !result.statuses.has(200)) {
        if (name === "empty") throw new Error("the empty app has failed");
        result.refused = [...result.statuses.keys()].filter((status) => status !== 200);
      }
      // The connections' own first requests count too.
      const asked = requests.length + connections;
      const after = kv?.counts();
      result.reads = kv && (after.reads - before.reads) / asked;
      result.readBytes = kv && (after.bytes - before.bytes) / asked;
      found[name].push(result);
    }
  }
  const summary = {};
  for (const name of names) {
    const each = (field) => found[name].map((result) => result[field]);
    const ratios = (field) => found[name].map((result, block) => result[field] / found.empty[block][field]).sort((a, b) => a - b);
    const one = { refused: found[name].find((result) => result.refused)?.refused };
    for (const field of ["p50", "p99", "perSecond", "cpuMicros", "reads", "readBytes", "bytes"]) {
      one[field] = each(field)[0] === undefined ? undefined : median(each(field));
    }
    one.ratio = {};
    for (const field of ["p50", "p99", "perSecond", "cpuMicros"]) {
      const sorted = ratios(field);
      one.ratio[field] = { median: median(sorted), least: sorted[0], most: sorted.at(-1) };
    }
    summary[name] = one;
  }
  return summary;
}

/** Every page is asked for, so that what fits stays in memory; and often enough that code is compiled as far as it ever is. */
async function warm(running) {
  const next = random(7);
  const requests = Array.from({ length: 6000 }, () => post("/get-online-features", JSON.stringify({ features, entities: { user_id: [Math.floor(next() * ENTITIES)] } })));
  await load(running, requests, 4);
}

async function measure(hostName, pageBytes) {
  const host = HOSTS[hostName];
  const values = filesOf(join(options.keys, String(pageBytes)));
  const kv = hostName === "viceroy" ? undefined : await KeyValueStore.start(values);
  const own = (name, variables = {}) => {
    const folder = copyOf(join(options.bundles, host.target), `${hostName}-${name}`);
    return () => host.start(folder, { kv, values, variables: { MEZZE_HEAD_SECONDS: "3600", ...variables } });
  };
  const emptyFolder = copyOf(join(options.empty, host.target), `${hostName}-empty`);
  const starts = { empty: () => host.start(emptyFolder), resident: own("resident"), small: own("small", { MEZZE_PAGE_CACHE_BYTES: String(SMALL_CACHE_BYTES) }) };
  const one = requestsFor(1, 1)[0];

  const colds = { empty: [], resident: [] };
  for (let block = 0; block < blocks; block++) for (const name of Object.keys(colds)) colds[name].push(await cold(starts[name], one));
  const coldOf = (name) => ({ process: median(colds[name].map((time) => time.process)), request: median(colds[name].map((time) => time.request)) });

  const apps = {};
  for (const [name, start] of Object.entries(starts)) apps[name] = await start();
  for (const running of Object.values(apps)) await warm(running);
  const result = { host: hostName, pageBytes, pages: [...values.keys()].filter((key) => key.startsWith("p/")).length, cold: { empty: coldOf("empty"), mezze: coldOf("resident") }, cases: [] };
  for (const entityCount of ENTITY_COUNTS) {
    process.stderr.write(`${hostName}, pages of ${pageBytes} bytes, entities: ${entityCount}\n`);
    result.cases.push({ entities: entityCount, sequential: await compare(apps, kv, entityCount, 1), parallel: await compare(apps, kv, entityCount, CONNECTIONS) });
  }
  for (const running of Object.values(apps)) await running.stop();
  await kv?.stop();
  return result;
}

const fixed = (number, digits = 2) => (number === undefined ? "" : number.toFixed(digits));
const whole = (number) => (number === undefined ? "" : Math.round(number).toLocaleString("en"));

function tableOf(hostName, results) {
  const lines = [`### ${hostName}`, "", "| page | entities | pages in memory | empty p50 | p50 | p99 | ratio of p50 | requests/s, 8 at once | ratio | CPU | ratio of CPU | reads | bytes read | response |", `|${" --- |".repeat(14)}`];
  for (const { pageBytes, cases } of results) {
    for (const { entities, sequential, parallel } of cases) {
      for (const [name, label] of [["resident", "all"], ["small", "few"]]) {
        const [one, many] = [sequential[name], parallel[name]];
        const row = [`${pageBytes / 1024} KiB`, entities, label];
        if (one.refused) row.push(`status ${one.refused}`, ...Array(10).fill(""));
        else {
          row.push(`${whole(sequential.empty.p50)} µs`, `${whole(one.p50)} µs`, `${whole(one.p99)} µs`, fixed(one.ratio.p50.median));
          row.push(whole(many.perSecond), fixed(many.ratio.perSecond.median), `${whole(one.cpuMicros)} µs`, fixed(one.ratio.cpuMicros.median));
          row.push(fixed(one.reads), whole(one.readBytes), whole(one.bytes));
        }
        lines.push(`| ${row.join(" | ")} |`);
      }
    }
  }
  lines.push("", "| page | empty: start to response | of that the request | Mezze: start to response | of that the request |", "| --- | --- | --- | --- | --- |");
  for (const { pageBytes, cold: { empty, mezze } } of results) {
    lines.push(`| ${pageBytes / 1024} KiB | ${fixed(empty.process, 0)} ms | ${fixed(empty.request, 1)} ms | ${fixed(mezze.process, 0)} ms | ${fixed(mezze.request, 1)} ms |`);
  }
  return lines.join("\n");
}

/** Bytes of a bundle's code, as they are and with gzip. */
function codeBytes(folder) {
  const found = [...filesOf(folder)].filter(([name]) => /\.(js|wasm)$/.test(name)).map(([, bytes]) => bytes);
  return { raw: found.reduce((sum, bytes) => sum + bytes.length, 0), gzip: found.reduce((sum, bytes) => sum + gzipSync(bytes, { level: 9 }).length, 0) };
}

try {
  const report = { node: process.version, cpus: cpus().length, blocks, requests: requestCount, code: {}, results: [] };
  const tables = [];
  for (const hostName of options.hosts.split(",")) {
    const host = HOSTS[hostName];
    if (!tool(host.program)) {
      console.log(`${hostName}: not measured, ${host.program} is not there`);
      continue;
    }
    report.code[hostName] = { empty: codeBytes(join(options.empty, host.target)), mezze: codeBytes(join(options.bundles, host.target)) };
    const results = [];
    for (const pageBytes of options["page-bytes"].split(",").map(Number)) results.push(await measure(hostName, pageBytes));
    report.results.push(...results);
    tables.push(tableOf(hostName, results));
  }
  console.log(`Medians of ${blocks} blocks of ${requestCount} requests, ${CONNECTIONS} connections where so said, ${report.cpus} processors.\n`);
  console.log(tables.join("\n\n"));
  console.log("\n| bundle | code | with gzip | the empty app's | with gzip |\n| --- | --- | --- | --- | --- |");
  for (const [hostName, { empty, mezze }] of Object.entries(report.code)) console.log(`| ${hostName} | ${whole(mezze.raw)} | ${whole(mezze.gzip)} | ${whole(empty.raw)} | ${whole(empty.gzip)} |`);
  const aimed = report.results.filter((result) => result.host === "workerd").map((result) => result.cases[0].sequential.resident.ratio);
  for (const [field, name] of aimed.length ? [["p50", "time"], ["cpuMicros", "CPU"]] : []) {
    const worst = Math.max(...aimed.map((ratio) => ratio[field].median));
    console.log(`\nworkerd, one entity, pages in memory, ratio of ${name}: ${fixed(worst)} at the most, aimed at ${RATIO_MAX}: ${worst <= RATIO_MAX ? "met" : "missed"}`);
  }
  if (options.json) writeFileSync(options.json, `${JSON.stringify(report, null, 1)}\n`);
} finally {
  rmSync(work, { recursive: true, force: true });
}
