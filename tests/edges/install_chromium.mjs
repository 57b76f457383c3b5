// Unpacks the npm package @sparticuz/chromium: node install_chromium.mjs PACKAGE OUT
// OUT has then the program `chromium`, its libraries and its fonts. Nothing is done where OUT is of this version already.
import { execFileSync } from "node:child_process";
import { createReadStream, createWriteStream, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";

const [archives, out] = [resolve(process.argv[2], "bin"), resolve(process.argv[3])];
const { version } = JSON.parse(readFileSync(resolve(process.argv[2], "package.json")));
const stamp = join(out, "version");
if (existsSync(stamp) && readFileSync(stamp, "utf8") === version) process.exit();

// Beside OUT, so that it can be moved there: what was cut off half-way is never taken for an installation.
const folder = mkdtempSync(join(dirname(out), `.${basename(out)}-`));
try {
  const unpack = (name, to) => pipeline(createReadStream(join(archives, name)), createBrotliDecompress(), to);
  await unpack("chromium.br", createWriteStream(join(folder, "chromium"), { mode: 0o755 }));
  for (const name of ["al2023", "fonts", "swiftshader"]) {
    const tar = join(folder, `${name}.tar`);
    await unpack(`${name}.tar.br`, createWriteStream(tar));
    execFileSync("tar", ["-xf", tar, "-C", folder, "--no-same-owner"]);
    rmSync(tar);
  }
  // The one that comes with it names folders of another platform.
  const fonts = '<!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig><dir prefix="relative">fonts</dir></fontconfig>\n';
  writeFileSync(join(folder, "fonts.conf"), fonts);
  writeFileSync(join(folder, "version"), version);
  rmSync(out, { recursive: true, force: true });
  renameSync(folder, out);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
