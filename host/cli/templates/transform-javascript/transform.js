// A transform: `mezze transform build` makes a component of it.
//
// How heavy a loan weighs on an income. Columns come in lanes (wit/transform.wit): `ints` as BigInt64Array, `floats` as Float64Array,
// all else as `bytes` with offsets. `valid` says by row 1 or 0 whether there is a value; it is not there where no row is null.

const isNull = (column, row) => column.valid != null && column.valid[row] === 0;
const numberAt = (column, row) => (isNull(column, row) ? null : Number(column.values.val[row]));

/** A column of floats from numbers and nulls. */
const floats = (values) => ({
  values: { tag: "floats", val: Float64Array.from(values, (value) => value ?? 0) },
  valid: Uint8Array.from(values, (value) => (value === null ? 0 : 1)),
});

/** A column of texts from strings and nulls. */
const texts = (values) => {
  // There is no TextEncoder here.
  const utf8 = (text) => Uint8Array.from(unescape(encodeURIComponent(text)), (letter) => letter.charCodeAt(0));
  const encoded = values.map((value) => utf8(value ?? ""));
  const offsets = new Uint32Array(values.length + 1);
  encoded.forEach((bytes, row) => (offsets[row + 1] = offsets[row] + bytes.length));
  const data = new Uint8Array(offsets[values.length]);
  encoded.forEach((bytes, row) => data.set(bytes, offsets[row]));
  return { values: { tag: "bytes", val: { offsets, data } }, valid: Uint8Array.from(values, (value) => (value === null ? 0 : 1)) };
};

export const computation = {
  describe() {
    return {
      inputs: [
        { name: "income", dtype: "float64" },
        { name: "loan_amnt", dtype: "int64" },
        { name: "debt", dtype: "float64" },
      ],
      outputs: [
        { name: "burden", dtype: "float64" },
        { name: "grade", dtype: "string" },
      ],
    };
  },

  run(rows, [income, loan, debt]) {
    const burdens = [];
    const grades = [];
    for (let row = 0; row < rows; row++) {
      const [of, borrowed] = [numberAt(income, row), numberAt(loan, row)];
      if (of === null || borrowed === null) {
        burdens.push(null);
        grades.push(null);
        continue;
      }
      const burden = (borrowed + (numberAt(debt, row) ?? 0)) / of;
      burdens.push(burden);
      grades.push(burden < 0.5 ? "light" : burden < 2 ? "fair" : "heavy");
    }
    return [floats(burdens), texts(grades)];
  },
};
