"""Makes the data: entity rows and feature views, as Parquet files and, if wanted, as CSV.

The same shape gives the same rows. Files are written one row group at a time, and a row group depends on nothing but the shape
and its own number (and, for rows that are written again, the one before it), so memory does not grow with the feature rows.

What is in the data on purpose, since joins go wrong there:

- feature rows exactly at an entity row's time, and exactly at its time less the ttl: both count;
- feature rows a microsecond after an entity row's time, and a microsecond before its time less the ttl: neither counts;
- rows that are written again, with the same keys and event time, a later created time and other values, some of them earlier in
  the file than what they correct;
- entity rows whose user has no features, and several with the same keys and time;
- nulls in features; on request in keys and in created times, and full ties, where the later row in the file counts;
- a view without a ttl, and one with two join keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from dataset import Dataset, View, views_of
from options import Shape

Ints = np.ndarray

TIMESTAMP = pa.timestamp("us", tz="UTC")
SECOND = 1_000_000
DAY = 86_400 * SECOND
# 2025-01-01T00:00:00Z
START = 1_735_689_600 * SECOND
ROW_GROUP_ROWS = 262_144
# So many entity rows have feature rows made for their edges; a bound on memory.
ANCHORS_MAX = 4 * ROW_GROUP_ROWS
UNKNOWN_USERS = 1_000
CATEGORIES = pa.array([f"category {number:03d}" for number in range(200)])
# The streams of random numbers.
UNIVERSE, ENTITY_ROWS, FEATURE_ROWS = 0, 1, 1_000


def generate(shape: Shape, folder: Path) -> Dataset:
    """Writes the data set into the folder, which must be empty or hold an older one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").unlink(missing_ok=True)
    (folder / "expected" / "done").unlink(missing_ok=True)
    dataset = Dataset(folder, shape, views_of(shape))
    universe = Universe(shape)
    anchors = _write_entity_rows(dataset, universe)
    for number, view in enumerate(dataset.views):
        _write_view(dataset, number, view, universe, anchors)
    dataset.write()
    return dataset


class Popularity:
    """How often each key occurs: a Zipf distribution whose ranks are scattered over the keys, which keep their order."""

    def __init__(self, keys: int, exponent: float, random: np.random.Generator) -> None:
        weights = 1.0 / np.power(np.arange(1, keys + 1, dtype=np.float64), exponent)
        self.weights = random.permutation(weights / weights.sum())
        self.cumulative = np.cumsum(self.weights)
        self.cumulative[-1] = 1.0

    def draw(self, count: int, random: np.random.Generator, keys: tuple[int, int] | None = None) -> Ints:
        """So many keys, of all or of those in the range."""
        first, end = keys or (0, len(self.cumulative))
        low = self.cumulative[first - 1] if first else 0.0
        high = self.cumulative[end - 1]
        drawn = np.searchsorted(self.cumulative, low + (high - low) * random.random(count), side="right")
        return np.asarray(np.clip(drawn, first, end - 1), dtype=np.int64)


class Universe:
    """The users and items that there are, and the pairs of them that occur."""

    def __init__(self, shape: Shape) -> None:
        random = np.random.default_rng([shape.seed, UNIVERSE])
        users, items = shape.entities, max(10, shape.entities // 5)
        self.users = Popularity(users, shape.zipf, random)
        self.items = Popularity(items, shape.zipf, random)
        drawn = self.users.draw(2 * users, random) * items + self.items.draw(2 * users, random)
        drawn = np.unique(drawn)
        self.pair_user, self.pair_item = drawn // items, drawn % items
        self.pairs = Popularity(len(drawn), shape.zipf, random)
        self.names: dict[str, pa.Array] = {}
        if shape.string_keys:
            self.names["user_id"] = pa.array([f"user-{number:08d}" for number in range(users + UNKNOWN_USERS)])
            self.names["item_id"] = pa.array([f"item-{number:08d}" for number in range(items)])

    def column(self, name: str, keys: Ints, nulls: np.ndarray | None) -> pa.Array:
        """Keys as a column: numbers, or names if the shape says so."""
        numbers = pa.array(keys, type=pa.int64(), mask=nulls)
        return self.names[name].take(numbers) if name in self.names else numbers

    def popularity(self, view: View) -> Popularity:
        if len(view.keys) == 2:
            return self.pairs
        return self.users if view.keys == ("user_id",) else self.items


@dataclass(frozen=True)
class Anchors:
    """Entity rows, by number; the pair is -1 where the user is not known to any view."""

    user: Ints
    item: Ints
    pair: Ints
    time: Ints

    def keys(self, view: View) -> Ints:
        """The key of each in the view's universe, or -1."""
        if len(view.keys) == 2:
            return self.pair
        return np.where(self.pair < 0, -1, self.user) if view.keys == ("user_id",) else self.item


def _write_entity_rows(dataset: Dataset, universe: Universe) -> Anchors:
    shape = dataset.shape
    kept: list[Anchors] = []
    with _Writer(dataset.entity_file, shape.csv) as writer:
        for group, first in enumerate(range(0, shape.entity_rows, ROW_GROUP_ROWS)):
            count = min(ROW_GROUP_ROWS, shape.entity_rows - first)
            random = np.random.default_rng([shape.seed, ENTITY_ROWS, group])
            pair = universe.pairs.draw(count, random)
            user, item = universe.pair_user[pair], universe.pair_item[pair]
            # The first fifth of the history has no entity rows, so that most have features behind them.
            second = random.integers(shape.days * 86_400 // 5, shape.days * 86_400, count)
            time = START + second * SECOND
            unknown = random.random(count) < 0.01
            user[unknown] = shape.entities + random.integers(0, UNKNOWN_USERS, int(unknown.sum()))
            pair[unknown] = -1
            twice = np.flatnonzero(random.random(count) < shape.duplicate_rows)
            other = random.integers(0, count, len(twice))
            for column in (user, item, pair, time):
                column[twice] = column[other]
            columns = {
                "row_id": pa.array(np.arange(first, first + count, dtype=np.int64)),
                "user_id": universe.column("user_id", user, _mask(shape.null_keys, count, random)),
                "item_id": universe.column("item_id", item, _mask(shape.null_keys, count, random)),
                "event_timestamp": _timestamps(time),
                "label": pa.array(random.random(count)),
            }
            writer.write(pa.table(columns))
            if first < ANCHORS_MAX:
                kept.append(Anchors(user, item, pair, time))
    join = [np.concatenate([getattr(part, name) for part in kept]) for name in ("user", "item", "pair", "time")]
    return Anchors(*join)


@dataclass(frozen=True)
class Cell:
    """What a row group is drawn from: a range of keys and a range of times. Ends are excluded."""

    rows: int
    keys: tuple[int, int]
    times: tuple[int, int]


def _cells(shape: Shape, popularity: Popularity) -> Iterator[Cell]:
    """The row groups of a view. In files that are sorted they follow each other in keys or in time."""
    rows, keys = shape.feature_rows, (0, len(popularity.weights))
    history = (START, START + shape.days * DAY)
    if shape.order == "random":
        for first in range(0, rows, ROW_GROUP_ROWS):
            yield Cell(min(ROW_GROUP_ROWS, rows - first), keys, history)
    elif shape.order == "time":
        yield from _slices(Cell(rows, keys, history))
    else:
        # Ranges end between keys; a key that fills half a row group has a range of its own.
        groups = np.arange(ROW_GROUP_ROWS, rows, ROW_GROUP_ROWS) / rows
        hot = np.flatnonzero(popularity.weights * rows > ROW_GROUP_ROWS / 2)
        ends = np.concatenate([np.searchsorted(popularity.cumulative, groups), hot, hot + 1, [0, keys[1]]])
        ends = np.unique(ends)
        row_ends = np.concatenate([[0.0], popularity.cumulative])[ends] * rows
        row_ends = np.rint(row_ends).astype(np.int64)
        for index in range(len(ends) - 1):
            cell = Cell(int(row_ends[index + 1] - row_ends[index]), (int(ends[index]), int(ends[index + 1])), history)
            if cell.keys[1] - cell.keys[0] == 1:
                yield from _slices(cell)
            elif cell.rows:
                yield cell


def _slices(cell: Cell) -> Iterator[Cell]:
    """The cell as row groups that follow each other in time, divided at whole seconds."""
    (start, end), rows = cell.times, cell.rows
    for first in range(0, rows, ROW_GROUP_ROWS):
        last = min(first + ROW_GROUP_ROWS, rows)
        at = [start + (end - start) // SECOND * row // rows * SECOND for row in (first, last)]
        yield Cell(last - first, cell.keys, (at[0], max(at[1], at[0] + SECOND)))


@dataclass(frozen=True)
class _Rows:
    """Feature rows without their features: key in the view's universe, event time, created time."""

    key: Ints
    time: Ints
    created: Ints


def _write_view(dataset: Dataset, number: int, view: View, universe: Universe, anchors: Anchors) -> None:
    shape = dataset.shape
    popularity = universe.popularity(view)
    ttl = view.ttl_seconds * SECOND or 30 * DAY
    before: _Rows | None = None
    first = 0
    with _Writer(dataset.view_file(view), shape.csv) as writer:
        for group, cell in enumerate(_cells(shape, popularity)):
            random = np.random.default_rng([shape.seed, FEATURE_ROWS + number, group])
            repeats = int(cell.rows * shape.re_emitted)
            fresh = _fresh_rows(cell, cell.rows - repeats, first, popularity, anchors.keys(view), anchors.time, ttl, random)
            # In a file without order, half of the corrections are of rows of the row group before.
            again = _again(shape, fresh, before if shape.order == "random" else None, repeats, first, random)
            rows = _Rows(
                *(np.concatenate([getattr(part, name) for part in (fresh, *again)]) for name in ("key", "time", "created"))
            )
            if shape.order == "random":
                order = random.permutation(cell.rows)
            elif shape.order == "time":
                order = np.lexsort((rows.created, rows.time))
            else:
                order = np.lexsort((rows.created, rows.time, rows.key))
            rows = _Rows(rows.key[order], rows.time[order], rows.created[order])
            writer.write(_feature_table(shape, view, universe, rows, random))
            before, first = fresh, first + cell.rows


def _fresh_rows(
    cell: Cell,
    count: int,
    first: int,
    popularity: Popularity,
    anchor_keys: Ints,
    anchor_times: Ints,
    ttl: int,
    random: np.random.Generator,
) -> _Rows:
    key = popularity.draw(count, random, cell.keys)
    time = cell.times[0] + random.integers(0, (cell.times[1] - cell.times[0]) // SECOND, count) * SECOND
    # A twentieth of the rows sit on the edges of what counts for an entity row.
    shift = np.array([0, -ttl, -ttl - 1, 1], dtype=np.int64)[random.integers(0, 4, len(anchor_keys))]
    edge = anchor_times + shift
    inside = (anchor_keys >= cell.keys[0]) & (anchor_keys < cell.keys[1]) & (edge >= cell.times[0]) & (edge < cell.times[1])
    chosen = np.flatnonzero(inside)
    chosen = random.permutation(chosen)[: count // 20]
    key[: len(chosen)], time[: len(chosen)] = anchor_keys[chosen], edge[chosen]
    # The microseconds keep rows of the same keys and times from tying by chance.
    created = time + random.integers(1, 3_600, count) * SECOND + (first + np.arange(count)) % SECOND
    return _Rows(key, time, created)


def _again(shape: Shape, fresh: _Rows, before: _Rows | None, count: int, first: int, random: np.random.Generator) -> list[_Rows]:
    """Rows of `fresh`, and of `before` if there is one, once more, created later or, on request, at the same time."""
    parts, written = [], len(fresh.key)
    for source, part in ((before, count // 2), (fresh, count - count // 2)) if before else ((fresh, count),):
        assert source is not None
        if not len(source.key):
            continue
        of = random.integers(0, len(source.key), part)
        later = random.integers(3_600, 86_400, part) * SECOND + (first + written + np.arange(part)) % SECOND
        if shape.tied_created:
            later[: part // 10] = 0
        parts.append(_Rows(source.key[of], source.time[of], source.created[of] + later))
        written += part
    return parts


def _feature_table(shape: Shape, view: View, universe: Universe, rows: _Rows, random: np.random.Generator) -> pa.Table:
    count = len(rows.key)
    if len(view.keys) == 2:
        keys = {"user_id": universe.pair_user[rows.key], "item_id": universe.pair_item[rows.key]}
    else:
        keys = {view.keys[0]: rows.key}
    columns = {name: universe.column(name, values, _mask(shape.null_keys, count, random)) for name, values in keys.items()}
    columns["event_timestamp"] = _timestamps(rows.time)
    columns["created"] = _timestamps(rows.created, _mask(shape.null_created, count, random))
    for name, kind in view.features:
        nulls = _mask(shape.null_features, count, random)
        if kind == "double":
            columns[name] = pa.array(random.normal(size=count), mask=nulls)
        elif kind == "int64":
            columns[name] = pa.array(random.integers(0, 1 << 40, count), mask=nulls)
        else:
            codes = pa.array(random.integers(0, len(CATEGORIES), count, dtype=np.int32), mask=nulls)
            columns[name] = pa.DictionaryArray.from_arrays(codes, CATEGORIES).cast(pa.string())
    return pa.table(columns)


def _timestamps(micros: Ints, nulls: np.ndarray | None = None) -> pa.Array:
    return pa.array(micros, type=pa.int64(), mask=nulls).cast(TIMESTAMP)


def _mask(part: float, count: int, random: np.random.Generator) -> np.ndarray | None:
    return random.random(count) < part if part > 0 else None


class _Writer:
    """A Parquet file, and beside it the same rows as CSV if wanted. Each table becomes a row group."""

    def __init__(self, path: Path, with_csv: bool) -> None:
        self._path, self._with_csv = path, with_csv
        self._parquet: pq.ParquetWriter | None = None
        self._csv: csv.CSVWriter | None = None

    def __enter__(self) -> _Writer:
        return self

    def write(self, table: pa.Table) -> None:
        if self._parquet is None:
            self._parquet = pq.ParquetWriter(self._path, table.schema, compression="snappy")
            if self._with_csv:
                self._csv = csv.CSVWriter(self._path.with_suffix(".csv"), table.schema)
        self._parquet.write_table(table, row_group_size=max(1, table.num_rows))
        if self._csv is not None:
            self._csv.write_table(table)

    def __exit__(self, *_: object) -> None:
        for writer in (self._parquet, self._csv):
            if writer is not None:
                writer.close()
