/** A value of a feature, by JSON: 64-bit integers beyond 2^53 lose digits; `FeatureStore.answer` has them all. */
export type FeatureValue = null | boolean | number | string | FeatureValue[] | { [key: string]: FeatureValue };
/** `INVALID`: what computes the feature failed, or the bundle does not carry it. */
export type Status = "PRESENT" | "NULL_VALUE" | "NOT_FOUND" | "OUTSIDE_MAX_AGE" | "INVALID";

/** One feature of one entity row. */
export interface Feature {
  value: FeatureValue;
  status: Status;
  /** RFC 3339, UTC; the epoch where there is no row. */
  eventTime: string;
}

export interface FeatureRequest {
  /** The name of a feature service; or else `features`. */
  service?: string;
  /** References such as `view:feature`. */
  features?: string[];
  /** A column for each join key and request field, all of one length. */
  entities: { [column: string]: FeatureValue[] };
  /** Names as `view__feature`. */
  fullFeatureNames?: boolean;
  /** The newest epoch that the page has seen: no older snapshot answers. */
  epoch?: bigint;
}

export interface Options {
  /** How often the head is read again; 30. */
  headSeconds?: number;
  /** Bytes of verified pages to keep; 32 MiB. */
  pageCacheBytes?: number;
  /** How long one read may take; 5,000. */
  readMillis?: number;
  /** Reads a URL. */
  fetch?: typeof fetch;
  /** The time in milliseconds since 1970 that freshness is judged by. */
  now?: () => number;
  /** Whose snapshots to open; anyone's where there is none. */
  trust?: Trust;
}

/** Whose snapshots to open. Takes a bundle of `mezze edge build browser --trust`. */
export interface Trust {
  /** Public keys, of which one has to have signed the snapshot. */
  keys: string[];
  /** The longest since it was signed, in seconds; any time where there is none. */
  headAgeMaxSeconds?: number;
  /** The lowest epoch to answer from. */
  epochMin?: bigint;
}

export interface SnapshotInfo {
  id: string;
  epoch: bigint;
  publishedAt: Date;
}

/** Which snapshot answered: `stepsBack` before the newest, where pages of that cannot be read. */
export interface Answered {
  snapshot: SnapshotInfo;
  stepsBack: number;
}

/** A request that got no features; `status` and `retryAfter`, in seconds, are the ones that HTTP would have. */
export class FeatureError extends Error {
  status: number;
  retryAfter?: number;
}

export class FeatureStore {
  /** Opens the snapshot whose keys lie under `base`. */
  static open(base: string, options?: Options): Promise<FeatureStore>;
  /** The newest snapshot here. */
  readonly snapshot: SnapshotInfo;
  /** Features by name, one for each entity row. */
  features(request: FeatureRequest): Promise<Answered & { features: { [name: string]: Feature[] } }>;
  /** Answers the body of `POST /get-online-features` with the same bytes as every other host. */
  answer(body: Uint8Array, options?: { epoch?: bigint }): Promise<Answered & { body: Uint8Array }>;
  /** Looks for a newer snapshot. */
  refresh(): Promise<SnapshotInfo>;
  /** Gives back the memory of its pages. It answers no more. */
  close(): void;
}
