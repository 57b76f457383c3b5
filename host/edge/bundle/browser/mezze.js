// Features from a Mezze snapshot on static hosting, answered here: no server. Works in browsers and in Node.
import { lookup } from "./serving.js";

const decoder = new TextDecoder();
const encoder = new TextEncoder();
const LIMITS = { requestBytes: 1 << 20, entities: 1000, values: 100000, pages: 200 };
const hex = (pair) => pair.map((half) => half.toString(16).padStart(16, "0")).join("");

/** A request that got no features: `status` is as over HTTP. */
export class FeatureError extends Error {
  constructor(status, message) {
    super(message);
    this.name = "FeatureError";
    this.status = status;
  }
}

const unavailable = (message) => new FeatureError(503, message);

export class FeatureStore {
  #base;
  #options;
  #store;
  #readAt = 0;
  #queue = Promise.resolve();
  /** What answers: id, epoch and the time it was published. */
  snapshot = null;

  constructor(base, options) {
    this.#base = base.endsWith("/") ? base : base + "/";
    this.#options = { headSeconds: 30, pageCacheBytes: 32 << 20, fetch: (...call) => fetch(...call), now: () => Date.now(), ...options };
    this.#store = new lookup.Store(BigInt(this.#options.pageCacheBytes));
  }

  /** Opens the snapshot whose keys lie under `base`. */
  static async open(base, options = {}) {
    const store = new FeatureStore(base, options);
    await store.refresh();
    return store;
  }

  async #read(key, cache) {
    const response = await this.#options.fetch(this.#base + key, { cache }).catch(() => null);
    if (!response?.ok) return null;
    return new Uint8Array(await response.arrayBuffer());
  }

  /** Looks for a newer snapshot. The one before answers on where there is none to be had. */
  async refresh() {
    this.#readAt = this.#options.now();
    const head = await this.#read("head", "no-cache");
    try {
      if (!head) throw unavailable("the head cannot be read");
      await this.#open(head);
    } catch (error) {
      if (!this.snapshot) throw error instanceof FeatureError ? error : unavailable(String(error));
    }
    return this.snapshot;
  }

  async #open(head) {
    let opened;
    try {
      // Opening cannot be taken back: a head that a cache kept too long must not be opened, so its epoch is looked at first.
      if (this.snapshot && new DataView(head.buffer).getBigUint64(EPOCH_AT, true) <= this.snapshot.epoch) return;
      opened = this.#store.open(head, undefined);
    } catch (error) {
      const payload = error.payload;
      if (payload?.tag !== "manifest-needed") throw unavailable(payload?.val ?? String(error));
      const manifest = await this.#read("m/" + payload.val, "force-cache");
      if (!manifest) throw unavailable("the manifest cannot be read");
      try {
        opened = this.#store.open(head, manifest);
      } catch (error) {
        throw unavailable(error.payload?.val ?? String(error));
      }
    }
    this.snapshot = { id: hex(opened.id), epoch: opened.epoch, publishedAt: new Date(Number(opened.issuedAt / 1000000n)) };
  }

  /** Answers the body of a request with the body of a response: the same bytes as over HTTP. */
  answer(body) {
    // One at a time: pages belong to the lookup that asked for them.
    const answered = this.#queue.then(() => this.#answer(body));
    this.#queue = answered.catch(() => {});
    return answered;
  }

  async #answer(body) {
    if (this.#options.now() - this.#readAt >= this.#options.headSeconds * 1000) await this.refresh();
    const now = BigInt(this.#options.now()) * 1000000n;
    const question = { body, media: "json", accept: "json", now, limits: LIMITS };
    for (const last of [false, true]) {
      const missing = await this.#tryAnswer(question);
      if (missing instanceof Uint8Array) return missing;
      // A page is not there: the snapshot may have been replaced.
      const epoch = this.snapshot.epoch;
      if (!last) await this.refresh();
      if (last || this.snapshot.epoch === epoch) throw unavailable("no complete snapshot can be read: " + missing);
    }
  }

  /** The answer, or what is wrong with a page. */
  async #tryAnswer(question) {
    let outcome = this.#store.lookup(question);
    if (outcome.tag === "missing") {
      const faults = await Promise.all(outcome.val.map((key) => this.#bring(key)));
      const fault = faults.find((found) => found);
      if (fault) return fault;
      outcome = this.#store.lookup(question);
    }
    if (outcome.tag === "answer") return outcome.val;
    if (outcome.tag === "missing") return "pages went missing";
    const said = decoder.decode(outcome.val.body);
    throw new FeatureError(outcome.val.status, JSON.parse(JSON.parse(said)).message);
  }

  async #bring(key) {
    const name = `p/${hex(key.segment)}/${key.table}/${key.bucket}`;
    let fault;
    for (const cache of ["force-cache", "reload"]) {
      const bytes = await this.#read(name, cache);
      try {
        if (!bytes) throw new Error(`page ${name} is missing`);
        this.#store.putPage(key, bytes);
        return null;
      } catch (error) {
        fault = error.payload ?? error.message;
      }
    }
    return fault;
  }

  /** Features by name, a list of `{ value, status, eventTime }` each, one for each entity row. */
  async features({ service, features, entities, fullFeatureNames = false }) {
    const wanted = service === undefined ? { features } : { feature_service: service };
    const body = JSON.stringify({ ...wanted, entities, full_feature_names: fullFeatureNames });
    const { results, metadata } = JSON.parse(decoder.decode(await this.answer(encoder.encode(body))));
    const rows = ({ values, statuses, event_timestamps: times }) =>
      values.map((value, row) => ({ value, status: statuses[row], eventTime: times[row] }));
    return Object.fromEntries(metadata.feature_names.map((name, column) => [name, rows(results[column])]));
  }
}

// Where a head has its epoch: docs/FORMAT.md.
const EPOCH_AT = 16;
