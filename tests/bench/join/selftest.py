"""Checks the checkers: the oracle against the literal rule, the comparison against outputs that were broken on purpose."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataset import ENTITY_COLUMNS, Dataset, View
from generate import generate
from options import Shape
from oracle import winners, write_expected
from verify import Strictness, Verdict, verify

STRICT = Strictness(ordered=True, typed=True)
LOOSE = Strictness(ordered=False, typed=False)


def self_test(folder: Path) -> bool:
    """Prints a line for each check; whether all hold."""
    small = Shape(
        entity_rows=700, feature_rows=3_000, entities=500, days=20, null_keys=0.05, null_created=0.1, duplicate_rows=0.1
    )
    shapes = {
        "random order": small,
        "one view": Shape(**{**vars(small), "views": 1, "seed": 3}),
        "five views, no composite key": Shape(**{**vars(small), "views": 5, "composite": False}),
        "tied created times": Shape(**{**vars(small), "tied_created": True, "re_emitted": 0.5}),
        "sorted by key": Shape(**{**vars(small), "order": "key", "zipf": 1.5}),
        "ordered by time, text keys": Shape(**{**vars(small), "order": "time", "string_keys": True, "tied_created": True}),
        "no skew": Shape(**{**vars(small), "zipf": 0.0, "null_created": 0.0}),
    }
    fine = True
    for number, (name, shape) in enumerate(shapes.items()):
        dataset = generate(shape, folder / f"set{number}")
        for view in dataset.views:
            wanted, counted = literal_winners(dataset, view)
            for passes in (1, 3):
                found = winners(dataset, view, -(-shape.feature_rows // passes))
                different = int((found != wanted).sum())
                fine &= _say(different == 0, f"oracle, {name}, {view.name}, {passes} passes: {different} rows differ")
            if name == "random order":
                fine &= _say(
                    all(counted.values()),
                    f"data, {view.name}, rows decided: {', '.join(f'{rows} {edge}' for edge, rows in counted.items())}",
                )

    dataset = generate(small, folder / "set0")
    write_expected(dataset)
    output = folder / "output.parquet"
    expected = expected_output(dataset)
    for what, strictness, change, wanted_wrong in breakages(expected):
        pq.write_table(change(expected), output)
        verdict = verify(dataset, output, strictness)
        holds = _holds(verdict, wanted_wrong)
        fine &= _say(holds, f"comparison, {what}: {verdict.wrong_rows} wrong; {'; '.join(verdict.problems[:2]) or 'no problem'}")
    output.write_bytes(output.read_bytes()[:-100])
    verdict = verify(dataset, output, LOOSE)
    fine &= _say(not verdict.right, f"comparison, a file cut short: {'; '.join(verdict.problems)}")
    return fine


def literal_winners(dataset: Dataset, view: View) -> tuple[np.ndarray, dict[str, int]]:
    """The rule, row by row; and how many entity rows are decided by which edge."""
    by_keys: dict[tuple[Any, ...], list[tuple[int, bool, int, int]]] = {}
    for number, (keys, time, created) in enumerate(_rows(dataset.view_file(view), view, "created")):
        by_keys.setdefault(keys, []).append((time, created is not None, created or 0, number))
    ttl = view.ttl_seconds * 1_000_000
    winner = []
    counted = {"at the time": 0, "1 µs after it": 0, "by created time": 0}
    if ttl:
        counted |= {"at the ttl": 0, "1 µs before the ttl": 0}
    for keys, time, _ in _rows(dataset.entity_file, view, "row_id"):
        rows = [] if None in keys else by_keys.get(keys, [])
        candidates = [row for row in rows if row[0] <= time and (not ttl or row[0] >= time - ttl)]
        best = max(candidates, default=None)
        winner.append(best[3] if best else -1)
        counted["1 µs after it"] += any(row[0] == time + 1 for row in rows)
        if best:
            counted["at the time"] += best[0] == time
            counted["by created time"] += sum(row[0] == best[0] for row in candidates) > 1
        if best and ttl:
            counted["at the ttl"] += best[0] == time - ttl
        elif ttl:
            counted["1 µs before the ttl"] += any(row[0] == time - ttl - 1 for row in rows)
    return np.array(winner), counted


def _rows(file: Path, view: View, more: str) -> Iterator[tuple[tuple[Any, ...], int, int | None]]:
    """Keys, event time in microseconds, and one more column as a number."""
    table = pq.read_table(file, columns=[*view.keys, "event_timestamp", more])
    keys = zip(*(table[key].to_pylist() for key in view.keys), strict=True)
    numbers = (table[name].cast(pa.int64()).to_pylist() for name in ("event_timestamp", more))
    return zip(keys, *numbers, strict=True)


def expected_output(dataset: Dataset) -> pa.Table:
    """The right output, in order."""
    table = pq.read_table(dataset.entity_file)
    for view in dataset.views:
        for column, values in zip(view.feature_names, pq.read_table(dataset.expected_file(view)).columns, strict=True):
            table = table.append_column(column, values)
    return table


Change = Callable[[pa.Table], pa.Table]


def breakages(right: pa.Table) -> list[tuple[str, Strictness, Change, int | None]]:
    """Outputs, and how many of their rows are wrong; nothing where only a problem is to be found."""
    count = right.num_rows
    swapped = np.arange(count)
    swapped[[10, 400]] = swapped[[400, 10]]
    first_value = {name: right[name].is_valid().index(True).as_py() for name in right.column_names}
    of_features = [name for name in right.column_names if name not in ENTITY_COLUMNS]
    value = int(first_value[of_features[1]])

    def with_cell(name: str, row: int, cell: Any) -> Change:
        def change(table: pa.Table) -> pa.Table:
            values = table[name].to_pylist()
            values[row] = cell
            return table.set_column(table.column_names.index(name), name, pa.array(values, table[name].type))

        return change

    def next_float(table: pa.Table) -> pa.Table:
        row = int(first_value[of_features[0]])
        return with_cell(of_features[0], row, float(np.nextafter(table[of_features[0]][row].as_py(), 1e9)))(table)

    def swap_features(table: pa.Table) -> pa.Table:
        features = table.select(of_features).take(swapped)
        for name in of_features:
            table = table.set_column(table.column_names.index(name), name, features[name])
        return table

    differing = 2 if any(right[name][10].as_py() != right[name][400].as_py() for name in of_features) else 0
    return [
        ("a right output", STRICT, lambda table: table, 0),
        ("a right output in another order, where order is free", LOOSE, lambda table: table.take(swapped[::-1].copy()), 0),
        (
            "other types of the same values, where types are free",
            LOOSE,
            lambda table: table.set_column(0, "row_id", table["row_id"].cast(pa.int32())),
            0,
        ),
        (
            "other types, where they are not",
            STRICT,
            lambda table: table.set_column(0, "row_id", table["row_id"].cast(pa.int32())),
            None,
        ),
        ("two rows swapped, where order counts", STRICT, lambda table: table.take(swapped), 2),
        ("the features of two rows swapped", LOOSE, swap_features, differing),
        ("one value", LOOSE, with_cell(of_features[1], value, -1), 1),
        ("one value that is null", LOOSE, with_cell(of_features[1], value, None), 1),
        ("one text", LOOSE, with_cell(of_features[2], int(first_value[of_features[2]]), "another"), 1),
        ("the last bit of one float", LOOSE, next_float, 1),
        ("one label", LOOSE, with_cell("label", 5, 2.0), 1),
        (
            "one null that has a value",
            LOOSE,
            with_cell(of_features[0], int(right[of_features[0]].is_null().index(True).as_py()), 0.0),
            1,
        ),
        ("a row that is missing", STRICT, lambda table: pa.concat_tables([table[:50], table[51:]]), 1),
        ("a row that is there twice", LOOSE, lambda table: pa.concat_tables([table, table[50:51]]), 1),
        ("a row in the place of another", LOOSE, lambda table: pa.concat_tables([table[:50], table[51:52], table[51:]]), 2),
        ("a row of no entity row", LOOSE, lambda table: pa.concat_tables([table, with_cell("row_id", 0, 10**9)(table)[:1]]), 1),
        ("a column that is missing", LOOSE, lambda table: table.drop_columns([of_features[-1]]), count),
        ("a column too many", LOOSE, lambda table: table.append_column("more", table["label"]), None),
        ("no rows", LOOSE, lambda table: table[:0], count),
    ]


def _holds(verdict: Verdict, wanted_wrong: int | None) -> bool:
    if wanted_wrong is None:
        return not verdict.right and not verdict.wrong_rows
    return verdict.wrong_rows == wanted_wrong and verdict.right == (wanted_wrong == 0)


def _say(holds: bool, what: str) -> bool:
    print(f"{'ok   ' if holds else 'WRONG'} {what}", file=sys.stdout if holds else sys.stderr)
    return holds
