"""Compares an output with the expected answer, row by row and column by column."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset import ENTITY_COLUMNS, Dataset


@dataclass
class Verdict:
    """What is wrong with an output."""

    # Entity rows that are missing, there more than once, out of place, or have a wrong value; and rows that are no entity row's.
    wrong_rows: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not self.wrong_rows and not self.problems


@dataclass(frozen=True)
class Strictness:
    """What is asked of an engine's output beyond its values."""

    # Whether rows have to be in the order of the entity rows.
    ordered: bool
    # Whether columns have to have the types of the sources, instead of types that hold the same values.
    typed: bool
    # pandas, which Feast goes through, has no null for floats. The data has no NaN.
    nan_is_null: bool = False


def verify(dataset: Dataset, output: Path, strictness: Strictness) -> Verdict:
    """Compares the Parquet file with the expected answer."""
    count = dataset.shape.entity_rows
    wanted = [*ENTITY_COLUMNS, *(name for view in dataset.views for name in view.feature_names)]
    try:
        found = pq.ParquetFile(output)
        names = found.schema_arrow.names
    except (OSError, pa.ArrowInvalid) as error:
        return Verdict(count, [f"the output cannot be read: {error}"])
    verdict = Verdict()
    missing = [name for name in wanted if name not in names]
    unwanted = [name for name in names if name not in wanted]
    if missing:
        return Verdict(count, [f"columns are missing: {', '.join(missing)}"])
    if unwanted or len(names) != len(wanted):
        verdict.problems.append(f"columns that should not be there: {', '.join(unwanted) or 'a name is there twice'}")

    wrong = np.zeros(count, dtype=bool)
    places, extra = _places(found, count, wrong, strictness, verdict)
    there = np.flatnonzero(places >= 0)
    in_order = len(there) == count == found.metadata.num_rows and bool(np.array_equal(places, there))
    take = None if in_order else pa.array(places[there])
    sources: list[tuple[Path, tuple[str, ...]]] = [(dataset.entity_file, ENTITY_COLUMNS)]
    sources += [(dataset.expected_file(view), tuple(view.feature_names)) for view in dataset.views]
    for source, columns in sources:
        for name in columns:
            expected = pq.read_table(source, columns=[name])[name]
            got = pq.read_table(output, columns=[name])[name]
            if take is not None:
                expected, got = expected.take(pa.array(there)), got.take(take)
            differs = _differs(name, expected, got, strictness, verdict)
            if differs.any():
                at = int(np.flatnonzero(differs)[0])
                verdict.problems.append(
                    f"{name}: {_rows(differs)} wrong; in row_id {there[at]} {got[at].as_py()!r} is found"
                    f" and {expected[at].as_py()!r} expected"
                )
                wrong[there[differs]] = True
    verdict.wrong_rows = int(wrong.sum()) + extra
    return verdict


def _places(
    found: pq.ParquetFile, count: int, wrong: np.ndarray, strictness: Strictness, verdict: Verdict
) -> tuple[np.ndarray, int]:
    """Where in the output each entity row is (-1: nowhere), and how many rows are no entity row's."""
    column = found.read(columns=["row_id"])["row_id"]
    try:
        ids = np.asarray(column.cast(pa.int64()).fill_null(-1))
    except pa.ArrowInvalid:
        ids = np.full(len(column), -1, dtype=np.int64)
    known = (ids >= 0) & (ids < count)
    extra = int((~known).sum())
    times = np.bincount(ids[known], minlength=count)
    places = np.full(count, -1, dtype=np.int64)
    backwards = np.flatnonzero(known)[::-1]
    places[ids[backwards]] = backwards
    for what, which in (("missing", times == 0), ("there more than once", times > 1)):
        if which.any():
            verdict.problems.append(f"{_rows(which)} {what}, the first is row_id {int(np.flatnonzero(which)[0])}")
            wrong |= which
    if extra:
        verdict.problems.append(f"{_rows(~known)} with a row_id that no entity row has")
    if strictness.ordered:
        # Right is what follows the row that comes before it: a row that is missing does not put all after it out of place.
        order = ids[known]
        sorted_order = np.sort(order, kind="stable")
        misplaced = order != sorted_order
        if misplaced.any():
            verdict.problems.append(f"{_rows(misplaced)} out of order, the first is row_id {int(order[misplaced][0])}")
            wrong[order[misplaced]] = True
    return places, extra


def _differs(name: str, expected: pa.ChunkedArray, got: pa.ChunkedArray, strictness: Strictness, verdict: Verdict) -> np.ndarray:
    kind = expected.type
    if strictness.typed and got.type != kind and not (_is_text(kind) and _is_text(got.type)):
        verdict.problems.append(f"{name}: its type is {got.type} and should be {kind}")
    if strictness.nan_is_null and pa.types.is_floating(got.type):
        got = pc.if_else(pc.is_nan(got), pa.scalar(None, got.type), got)
    try:
        got = got.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        verdict.problems.append(f"{name}: {got.type} does not hold values of {kind}: {error}")
        return np.ones(len(expected), dtype=bool)
    there, found = _valid(expected), _valid(got)
    if _is_text(kind):
        same = np.asarray(pc.equal(expected, got).fill_null(False))
    else:
        same = _bits(expected) == _bits(got)
    differs: np.ndarray = (there != found) | (there & found & ~same)
    return differs


def _rows(which: np.ndarray) -> str:
    count = int(which.sum())
    return "1 row" if count == 1 else f"{count:,} rows"


def _valid(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.is_valid())


def _bits(column: pa.ChunkedArray) -> np.ndarray:
    """Numbers as their bits: floats are the same to the last bit or they are not the same."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return np.asarray(column.fill_null(0)).view(np.int64)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
