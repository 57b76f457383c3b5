// Features from a Mezze snapshot on static hosting, answered here: no server. Works in browsers and in Node.
import * as serving from "./serving.js";

// begin: trust
// `serving.trust` is there in a bundle that checks signatures; the other has no lines between these two.
// end: trust
const { stores } = serving;

const decoder = new TextDecoder();
const encoder = new TextEncoder();
const hex = (pair) => pair.map((half) => half.toString(16).padStart(16, "0")).join("");

/** A request that got no features: `status` and `retryAfter` are as over HTTP. */
export class FeatureError extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.name = "FeatureError";
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const unavailable = (message) => new FeatureError(503, message, 1);
const reason = (error) => error.payload?.val ?? error.payload ?? error.message;

/** One snapshot: the number of its store in the component, and what it says of itself. */
class Opened {
  constructor(store, opened) {
    this.store = store;
    this.info = {
      id: hex(opened.id),
      epoch: opened.epoch,
      publishedAt: new Date(Number(opened.issuedAt / 1000000n)),
    };
    this.earlier = opened.earlier;
  }
}

export class FeatureStore {
  #base;
  #options;
  #head;
  #newest;
  // Snapshots before the newest that had to be opened, by the keys of their manifests.
  #before = new Map();
  #readAt = 0;
  #forcedAt = -Infinity;
  #queue = Promise.resolve();

  constructor(base, options) {
    this.#base = base.endsWith("/") ? base : base + "/";
    this.#options = {
      headSeconds: 30,
      pageCacheBytes: 32 << 20,
      readMillis: 5000,
      fetch: (...call) => fetch(...call),
      now: () => Date.now(),
      ...options,
    };
    if (options?.trust && !serving.trust) throw new Error("to trust keys, build with `mezze edge build browser --trust`");
  }

  /** Opens the snapshot whose keys lie under `base`. */
  static async open(base, options) {
    const store = new FeatureStore(base, options);
    await store.refresh();
    return store;
  }

  /** The newest snapshot here. */
  get snapshot() {
    return this.#newest?.info ?? null;
  }

  /** The value of a key; null where it is missing, cannot be read, or does not come in time. */
  async #read(key, cache) {
    try {
      const signal = AbortSignal.timeout(this.#options.readMillis);
      const response = await this.#options.fetch(this.#base + key, { cache, signal });
      return response.ok ? new Uint8Array(await response.arrayBuffer()) : null;
    } catch {
      return null;
    }
  }

  /** Looks for a newer snapshot. The one before answers on where there is none to be had. */
  refresh() {
    // A store is not to be switched under a lookup.
    return this.#inTurn(() => this.#refresh());
  }

  #inTurn(task) {
    const done = this.#queue.then(task);
    this.#queue = done.catch(() => {});
    return done;
  }

  async #refresh() {
    this.#readAt = this.#options.now();
    try {
      const head = await this.#read("head", "no-cache");
      if (!head) throw unavailable("no snapshot can be read: the head is missing");
      await this.#open(head);
    } catch (error) {
      if (!this.#newest) throw error;
    }
    return this.snapshot;
  }

  async #open(head) {
    const store = this.#newest?.store ?? this.#make();
    // Opening cannot be taken back: a head that a cache kept too long must not be opened, so its epoch is looked at first.
    if (this.#newest && head.length > EPOCH_AT + 8) {
      let epoch = this.#newest.info.epoch;
      // begin: trust
      // The same may have been signed anew.
      if (this.#options.trust) epoch -= 1n;
      // end: trust
      if (new DataView(head.buffer).getBigUint64(EPOCH_AT, true) <= epoch) return;
    }
    let opened;
    try {
      opened = this.#openIn(store, head);
    } catch (error) {
      if (error.payload?.tag !== "manifest-needed") throw unavailable("no snapshot can be read: " + reason(error));
      const by = await this.#openBy(head, "m/" + error.payload.val);
      stores.dropStore(by.store);
      opened = this.#openIn(store, head, by.manifest);
    }
    this.#head = head;
    this.#newest = new Opened(store, opened);
    for (const { store } of this.#before.values()) stores.dropStore(store);
    this.#before.clear();
  }

  /** A store of its own, which opens only what is to be trusted. */
  #make() {
    // begin: trust
    const store = storeCount + 1;
    const { pageCacheBytes, trust } = this.#options;
    if (trust) {
      const { keys, headAgeMaxSeconds = 0, epochMin = 0 } = trust;
      try {
        serving.trust.setTrust(store, pageCacheBytes, keys.join(), headAgeMaxSeconds, BigInt(epochMin));
      } catch (error) {
        throw new Error("trust.keys: " + reason(error));
      }
    }
    // end: trust
    return ++storeCount;
  }

  #openIn(store, head, manifest) {
    // begin: trust
    if (this.#options.trust) serving.trust.setNow(store, BigInt(this.#options.now()) * 1000000n);
    // end: trust
    return stores.open(store, this.#options.pageCacheBytes, head, manifest);
  }

  /** Gives back the memory of its pages. It answers no more. */
  close() {
    for (const { store } of [...this.#before.values(), ...(this.#newest ? [this.#newest] : [])]) stores.dropStore(store);
    this.#newest = undefined;
  }

  /** Opens a snapshot in a store of its own, by the manifest of this key and no other's. */
  async #openBy(head, key) {
    let fault;
    for (const cache of ["force-cache", "reload"]) {
      const manifest = await this.#read(key, cache);
      const store = this.#make();
      try {
        if (!manifest) throw new Error(`manifest ${key} is missing`);
        const opened = this.#openIn(store, head, manifest);
        if ("m/" + hex(opened.id) !== key) throw new Error(`manifest ${key} is another's`);
        return { store, opened, manifest };
      } catch (error) {
        stores.dropStore(store);
        fault = reason(error);
      }
    }
    throw unavailable("no snapshot can be read: " + fault);
  }

  /** The head anew, past caches, at most once a second whoever asks. Whether a newer snapshot came of it. */
  async #force() {
    const now = this.#options.now();
    if (now - this.#forcedAt >= 0 && now - this.#forcedAt < 1000) return false;
    this.#forcedAt = now;
    const { epoch } = this.snapshot;
    await this.#refresh();
    return this.snapshot.epoch > epoch;
  }

  /** A snapshot before the newest. */
  async #openEarlier(key) {
    if (!this.#before.has(key)) {
      const { store, opened } = await this.#openBy(this.#head, key);
      this.#before.set(key, new Opened(store, opened));
    }
    return this.#before.get(key);
  }

  /** Answers the body of a request: the same bytes as over HTTP, and which snapshot they are from. */
  answer(body, { epoch = 0n } = {}) {
    // One at a time: pages belong to the lookup that asked for them.
    return this.#inTurn(() => this.#answer(body, BigInt(epoch)));
  }

  async #answer(body, seen) {
    if (!this.#newest) throw unavailable("the store is closed");
    const millis = this.#options.now();
    const since = millis - this.#readAt;
    if (since >= this.#options.headSeconds * 1000 || since < 0) await this.#refresh();
    if (seen > this.snapshot.epoch) await this.#force();
    if (seen > this.snapshot.epoch) {
      const message = `this host is at epoch ${this.snapshot.epoch}, the request wants ${seen} or later`;
      throw new FeatureError(409, message, Math.max(1, this.#options.headSeconds));
    }
    const now = BigInt(millis) * 1000000n;
    const from = async (opened, stepsBack) => {
      const answered = await this.#lookup(opened.store, body, now);
      return answered instanceof Uint8Array ? { body: answered, snapshot: opened.info, stepsBack } : answered;
    };
    // begin: trust
    // Its head may have been signed too long ago, and anew since.
    const isStale = this.#options.trust && (await from(this.#newest, 0).then(() => false, ({ status }) => status === 503));
    if (isStale) await this.#force();
    // end: trust
    let answered = await from(this.#newest, 0);
    // A page is not there: the snapshot may have been replaced.
    if (!answered.body && (await this.#force())) answered = await from(this.#newest, 0);
    const fault = answered;
    for (const [number, key] of this.#newest.earlier.entries()) {
      if (answered.body) break;
      // What an older snapshot lacks is no fault of the request's.
      const opened = await this.#openEarlier(key).catch(() => null);
      if (opened && opened.info.epoch >= seen) answered = await from(opened, number + 1).catch(() => answered);
    }
    if (!answered.body) throw unavailable("no complete snapshot can be read: " + fault);
    return answered;
  }

  /** The answer of one snapshot, or what is wrong with a page. */
  async #lookup(store, body, now) {
    let outcome = stores.lookup(store, body, now);
    if (outcome.tag === "missing") {
      const faults = await Promise.all(outcome.val.map((key) => this.#bring(store, key)));
      const fault = faults.find((found) => found);
      if (fault) return fault;
      outcome = stores.lookup(store, body, now);
    }
    if (outcome.tag === "answer") return outcome.val;
    if (outcome.tag === "missing") return "pages went missing";
    const said = JSON.parse(JSON.parse(decoder.decode(outcome.val.body)));
    throw new FeatureError(outcome.val.status, said.message);
  }

  async #bring(store, key) {
    const name = `p/${hex(key.segment)}/${key.table}/${key.bucket}`;
    let fault;
    for (const cache of ["force-cache", "reload"]) {
      const bytes = await this.#read(name, cache);
      try {
        if (!bytes) throw new Error(`page ${name} is missing`);
        stores.putPage(store, key, bytes);
        return null;
      } catch (error) {
        fault = reason(error);
      }
    }
    return fault;
  }

  /** Features by name, a list of `{ value, status, eventTime }` each, one for each entity row; and which snapshot they are of. */
  async features({ service, features, entities, fullFeatureNames = false, epoch }) {
    const wanted = service === undefined ? { features } : { feature_service: service };
    const request = JSON.stringify({ ...wanted, entities, full_feature_names: fullFeatureNames });
    const { body, snapshot, stepsBack } = await this.answer(encoder.encode(request), { epoch });
    const { results, metadata } = JSON.parse(decoder.decode(body));
    const rows = ({ values, statuses, event_timestamps: times }) =>
      values.map((value, row) => ({ value, status: statuses[row], eventTime: times[row] }));
    const named = metadata.feature_names.map((name, column) => [name, rows(results[column])]);
    return { features: Object.fromEntries(named), snapshot, stepsBack };
  }
}

// Of all in this realm, which share one component.
let storeCount = 0;
// Where a head has its epoch: docs/FORMAT.md.
const EPOCH_AT = 16;
