// Transforms where the host is JavaScript: each a module that bounds itself, with the interface `bounded` of wit/carried.wit. A
// call comes as bytes and its result goes back as bytes; edge-deploy/carried/src/bytes.rs says what is where.

const BOUNDED = "mezze:features/bounded@0.1.0#";
// By a column's lane: the bytes of an element of each of its lists, which are also what its address is a multiple of.
const LANES = [[8], [8], [4, 1]];
// Where a call has its columns.
const COLUMNS_AT = 28;
// A memory does not shrink, and is cleared for each call: one that has grown beyond this goes with its instance.
const MEMORY_BYTES_KEPT = 4 << 20;

/** What calls these transforms, given as pairs of a digest in hex and a `WebAssembly.Module`. `run` throws nothing. */
export function carry(modules) {
  const instances = [];
  const digests = Uint8Array.from(modules.flatMap(([digest]) => digest.match(/../g)), (byte) => parseInt(byte, 16));
  return {
    digests: () => digests,
    run(call) {
      const view = viewOf(call);
      const number = view.getUint32(0, true);
      let letter = "t";
      try {
        const { exports } = (instances[number] ??= new WebAssembly.Instance(modules[number][1]));
        exports[BOUNDED + "limit"](view.getBigUint64(8, true), view.getUint32(16, true), view.getBigUint64(20, true));
        const [columns, count] = lower(call, view, exports);
        const at = exports[BOUNDED + "run"](view.getUint32(4, true), columns, count) >>> 0;
        letter = "b";
        const result = lift(at, exports.memory.buffer);
        letter = "t";
        // After it the instance is as new.
        exports["cabi_post_" + BOUNDED + "run"](at);
        if (exports.memory.buffer.byteLength > MEMORY_BYTES_KEPT) instances[number] = undefined;
        return result;
      } catch {
        // What was left behind is not to be built upon.
        instances[number] = undefined;
        return stopped(letter.charCodeAt(0));
      }
    },
  };
}

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const stopped = (letter) => Uint8Array.of(2, letter);

/** Puts the columns of a call into the memory of a transform: where they are, and how many. */
function lower(call, view, { memory, cabi_realloc }) {
  let at = COLUMNS_AT;
  const nextCount = () => view.getUint32((at += 4) - 4, true);
  const place = (bytes, align) => {
    if (bytes.length === 0) return align;
    const to = cabi_realloc(0, 0, align, bytes.length) >>> 0;
    new Uint8Array(memory.buffer, to, bytes.length).set(bytes);
    return to;
  };
  const count = nextCount();
  const records = new Uint8Array(count * 32);
  const fields = viewOf(records);
  for (let record = 0; record < records.length; record += 32) {
    const list = (field, size) => {
      const length = nextCount();
      const bytes = call.subarray(at, (at += length * size));
      fields.setUint32(record + field, place(bytes, size), true);
      fields.setUint32(record + field + 4, length, true);
    };
    const lane = (records[record] = call[at++]);
    const hasValid = (records[record + 20] = call[at++]);
    LANES[lane].forEach((size, number) => list(4 + 8 * number, size));
    if (hasValid) list(24, 1);
  }
  return [place(records, 4), count];
}

/** What a call has left in the memory of a transform. It throws where that is nothing that can be. */
function lift(at, buffer) {
  const view = new DataView(buffer);
  const parts = [];
  const list = (field, size) => {
    const count = view.getUint32(field + 4, true);
    const bytes = new Uint8Array(buffer, view.getUint32(field, true), count * size);
    const counted = new Uint8Array(4);
    viewOf(counted).setUint32(0, count, true);
    parts.push(counted, bytes);
    return bytes;
  };
  if (view.getUint8(at)) {
    const said = list(at + 4, 1);
    // Why it was stopped, or what it says itself.
    return said.length === 2 && said[0] === 1 ? stopped(said[1]) : joined([Uint8Array.of(1), said]);
  }
  const records = list(at + 4, 32);
  // Of these only the count crosses.
  parts.pop();
  for (let record = records.byteOffset; record < records.byteOffset + records.length; record += 32) {
    const lane = view.getUint8(record);
    const hasValid = view.getUint8(record + 20);
    parts.push(Uint8Array.of(lane, hasValid));
    LANES[lane].forEach((size, number) => list(record + 4 + 8 * number, size));
    if (hasValid) list(record + 24, 1);
  }
  return joined([Uint8Array.of(0), ...parts]);
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
