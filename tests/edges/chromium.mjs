// What the tests have Chromium do. Bodies come in base64; what is returned is JSON.
const memories = [];
const instantiate = WebAssembly.instantiate;
WebAssembly.instantiate = async (...given) => {
  const instance = await instantiate(...given);
  memories.push(...Object.values(instance.exports).filter((made) => made instanceof WebAssembly.Memory));
  return instance;
};
// Only now, so that its memories are seen.
const { FeatureError, FeatureStore } = await import("./mezze.js");

const decoder = new TextDecoder();
let store;
let load;

const said = async (asked) => {
  try {
    return await asked;
  } catch (error) {
    // Any other error is a bug, and fails the test.
    if (!(error instanceof FeatureError)) throw error;
    return { status: error.status, said: error.message, retryAfter: error.retryAfter };
  }
};
const bytes = (body) => Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
const answer = (body, options) =>
  said(
    store.answer(body, options).then(({ body, snapshot, stepsBack }) => {
      return { status: 200, said: decoder.decode(body), epoch: Number(snapshot.epoch), stepsBack };
    }),
  );

/** Opens a snapshot. With `refreshes`, the head is read again whenever pages are on their way. */
export const open = async (base, { refreshes, ...options }) => {
  const switching = async (url, ...rest) => {
    if (url.includes("/p/")) {
      store.refresh();
      // Time enough for a switch, if it does not wait.
      for (let turn = 0; turn < 3; turn++) await (await fetch(base + "head", { cache: "no-store" })).arrayBuffer();
    }
    return fetch(url, ...rest);
  };
  store = await FeatureStore.open(base, refreshes ? { ...options, fetch: switching } : options);
  return Number(store.snapshot.epoch);
};

/** Opens a snapshot that someone has to have signed, and asks it. */
export const trusting = (base, trust, body, seen) =>
  said(
    FeatureStore.open(base, { trust })
      .then((store) => store.answer(bytes(body), { epoch: BigInt(seen) }))
      .then(({ body }) => ({ status: 200, said: decoder.decode(body) })),
  );

/** All at once: they must not take each other's pages. */
export const answers = (bodies, options) => Promise.all(bodies.map((body) => answer(bytes(body), options)));

export const memoryBytes = () => memories.reduce((sum, memory) => sum + memory.buffer.byteLength, 0);

/** Asks all the time from now on, and has the head read again meanwhile. */
export const start = (body) => {
  const asked = bytes(body);
  load = { runs: true, answered: [], heard: () => {} };
  const again = async (ask) => {
    while (load.runs) await ask();
  };
  const ask = async () => {
    load.answered.push(await answer(asked));
    load.heard();
  };
  load.done = Promise.all([again(ask), again(ask), again(ask), again(() => store.refresh())]);
};

/** Until there is an answer of this epoch, and so many after it. */
export const heard = (epoch, more) =>
  new Promise((done) => {
    load.heard = () => {
      const first = load.answered.findIndex((answered) => answered.epoch === epoch);
      // Whatever fails is seen by the test.
      if ((first >= 0 && load.answered.length > first + more) || load.answered.at(-1).status !== 200) done(null);
    };
  });

export const stop = async () => {
  load.runs = false;
  await load.done;
  return load.answered;
};

/** What the demo says at last. */
export const demo = async () => {
  const says = () => document.title.startsWith("Mezze: ");
  await new Promise((done) => {
    if (says()) return done();
    new MutationObserver(() => says() && done()).observe(document.head, { subtree: true, childList: true, characterData: true });
  });
  await document.fonts.ready;
  return { title: document.title, text: document.body.innerText };
};

const pixels = async (url) => {
  const image = await createImageBitmap(await (await fetch(url)).blob());
  const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height);
};

/** The share of pixels that differ by more than so many levels; 1 where the sizes do. */
export const differing = async (golden, shot, levels) => {
  const [a, b] = [await pixels(golden), await pixels(shot)];
  if (a.width !== b.width || a.height !== b.height) return 1;
  let count = 0;
  for (let at = 0; at < a.data.length; at += 4) {
    if ([0, 1, 2].some((color) => Math.abs(a.data[at + color] - b.data[at + color]) > levels)) count++;
  }
  return count / (a.width * a.height);
};
