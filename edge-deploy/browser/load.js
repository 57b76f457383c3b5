// Goes behind carry.js, in bundles for browsers and Node: Workers have their modules compiled.

/** Compiles transforms for `carry`, all at once: pairs of a digest and the URL of its module. */
export const load = (modules) => Promise.all(modules.map(async ([digest, url]) => [digest, await compiled(url)]));

async function compiled(url) {
  if (url.protocol !== "file:") return WebAssembly.compileStreaming(fetch(url));
  // In Node.
  const { readFile } = await import("node:fs/promises");
  return WebAssembly.compile(await readFile(url));
}
