"""The exact answer, by sorting and binary search in numpy, without any engine that is measured.

For each entity row and view, of the feature rows

- with the same keys, none of them null,
- and `entity time - ttl <= event time <= entity time`, both included, where a ttl of 0 is for ever,

the one counts that has the greatest event time; of those with the greatest created time, null being the lowest; of those the last
in the file. It is taken whole, with its nulls. An entity row without such a row has null features.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset import Dataset, View

LOWEST = np.iinfo(np.int64).min
BATCH_ROWS = 262_144
# Feature rows are sorted in passes over some of the keys each, so that memory has a bound.
ROWS_PER_PASS = 16_000_000


def write_expected(dataset: Dataset) -> None:
    """Writes the expected features of each view, unless they are there."""
    if dataset.expected_is_there:
        return
    folder = dataset.folder / "expected"
    folder.mkdir(exist_ok=True)
    for view in dataset.views:
        _write_features(dataset, view, winners(dataset, view))
    (folder / "done").touch()


def winners(dataset: Dataset, view: View, rows_per_pass: int = ROWS_PER_PASS) -> np.ndarray:
    """For each entity row the number of the feature row that counts, or -1."""
    entity_rows = pq.read_table(dataset.entity_file, columns=[*view.keys, "event_timestamp"])
    index = _KeyIndex([entity_rows[name].combine_chunks() for name in view.keys])
    entity_keys = index.ids_of([entity_rows[name].combine_chunks() for name in view.keys])
    entity_times = _micros(entity_rows["event_timestamp"])
    del entity_rows
    winner = np.full(len(entity_keys), -1, dtype=np.int64)
    passes = max(1, -(-dataset.shape.feature_rows // rows_per_pass))
    for turn in range(passes):
        mine = np.flatnonzero((entity_keys >= 0) & (entity_keys % passes == turn))
        rows = _feature_rows(dataset, view, index, passes, turn)
        winner[mine] = _newest(rows, entity_keys[mine], entity_times[mine], view.ttl_seconds * 1_000_000)
    return winner


class _KeyIndex:
    """Numbers the distinct keys of entity rows from 0 on."""

    def __init__(self, columns: list[pa.Array]) -> None:
        self._values = [pc.drop_null(pc.unique(column)) for column in columns]
        self._values = [values.take(pc.sort_indices(values)) for values in self._values]
        combined = self._combined(columns)
        self._keys = np.unique(combined[combined >= 0])

    def ids_of(self, columns: list[pa.Array]) -> np.ndarray:
        """The number of each row's keys; -1 where one is null or no entity row has them."""
        combined = self._combined(columns)
        if not len(self._keys):
            return np.full(len(combined), -1, dtype=np.int64)
        at = np.searchsorted(self._keys, combined)
        at[at == len(self._keys)] = 0
        ids: np.ndarray = np.where((combined >= 0) & (self._keys[at] == combined), at, -1)
        return ids

    def _combined(self, columns: list[pa.Array]) -> np.ndarray:
        combined = np.zeros(len(columns[0]), dtype=np.int64)
        for column, values in zip(columns, self._values, strict=True):
            code = _codes(column, values)
            combined = np.where((combined < 0) | (code < 0), -1, combined * len(values) + code)
        return combined


def _codes(column: pa.Array, values: pa.Array) -> np.ndarray:
    """Where each value is in the sorted values; -1 for null and for what is not among them."""
    if not len(values):
        return np.full(len(column), -1, dtype=np.int64)
    if pa.types.is_integer(column.type):
        known, sought = values.to_numpy(), column.fill_null(0).to_numpy(zero_copy_only=False)
        at = np.searchsorted(known, sought)
        at[at == len(known)] = 0
        found = (known[at] == sought) & column.is_valid().to_numpy(zero_copy_only=False)
        return np.where(found, at, -1)
    return np.asarray(pc.index_in(column, value_set=values, skip_nulls=True).fill_null(-1), dtype=np.int64)


def _feature_rows(dataset: Dataset, view: View, index: _KeyIndex, passes: int, turn: int) -> tuple[np.ndarray, ...]:
    """Key, event time, created time and row number of the feature rows whose keys an entity row of this pass has."""
    parts: list[tuple[np.ndarray, ...]] = []
    first = 0
    columns = [*view.keys, "event_timestamp", "created"]
    for batch in pq.ParquetFile(dataset.view_file(view)).iter_batches(BATCH_ROWS, columns=columns):
        keys = index.ids_of([batch[name] for name in view.keys])
        kept = np.flatnonzero((keys >= 0) & (keys % passes == turn))
        parts.append((keys[kept], _micros(batch["event_timestamp"])[kept], _micros(batch["created"])[kept], first + kept))
        first += batch.num_rows
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _newest(rows: tuple[np.ndarray, ...], entity_keys: np.ndarray, entity_times: np.ndarray, ttl: int) -> np.ndarray:
    keys, times, created, numbers = rows
    if not len(keys):
        return np.full(len(entity_keys), -1, dtype=np.int64)
    # Times as ranks, so that keys and times fit into one number: rank r + 1 is the r-th distinct time, 0 is before all.
    distinct, rank = np.unique(times, return_inverse=True)
    step = np.int64(len(distinct) + 1)
    place = keys * step + rank + 1
    sought = entity_keys * step + np.searchsorted(distinct, entity_times, side="right")
    # The sort is stable and the rows are in the order of the file: the last of a tie is the last in the file.
    order = np.lexsort((created, place))
    at = np.searchsorted(place[order], sought, side="right") - 1
    found = order[np.maximum(at, 0)]
    counts = (at >= 0) & (keys[found] == entity_keys)
    if ttl:
        counts &= times[found] >= entity_times - ttl
    return np.where(counts, numbers[found], -1)


def _write_features(dataset: Dataset, view: View, winner: np.ndarray) -> None:
    """Fetches each row that counts once, and writes the features in the order of the entity rows."""
    needed = np.unique(winner[winner >= 0])
    chunks: list[pa.Table] = []
    first = 0
    source = pq.ParquetFile(dataset.view_file(view))
    for batch in source.iter_batches(BATCH_ROWS, columns=view.feature_names):
        low, high = np.searchsorted(needed, [first, first + batch.num_rows])
        chunks.append(pa.table(batch).take(pa.array(needed[low:high] - first)))
        first += batch.num_rows
    features = pa.concat_tables(chunks).combine_chunks()
    with pq.ParquetWriter(dataset.expected_file(view), features.schema) as writer:
        for start in range(0, len(winner), BATCH_ROWS):
            part = winner[start : start + BATCH_ROWS]
            at = pa.array(np.searchsorted(needed, part), mask=part < 0)
            writer.write_table(features.take(at))


def _micros(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.cast(pa.int64()).fill_null(LOWEST))
