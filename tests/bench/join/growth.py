"""Whether Mezze's time grows faster than rows do."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from options import Shape
from report import MEASURES, Measure, Result, figures

# What a step may be above its share before it is called growth: runs differ by about this much.
TOLERANCE = 1.10


@dataclass(frozen=True)
class Point:
    """One data set and what it took."""

    factor: int
    shape: Shape
    # Of the kind that grows, in all views together.
    rows: int
    result: Result


@dataclass(frozen=True)
class Series:
    """Data sets of which one kind of rows grows."""

    what: str
    points: list[Point]

    @property
    def right(self) -> bool:
        return all(point.result.verified for point in self.points)

    def exponent(self, measure: Measure) -> float:
        """`x` where time grows as rows to the power of x from the first data set to the last, by the least of the runs."""
        first, last = self.points[0], self.points[-1]
        return math.log(_least(last, measure) / _least(first, measure)) / math.log(last.rows / first.rows)

    def steps(self, measure: Measure) -> list[float]:
        """From each data set to the next: by how much time grew, divided by how much rows did."""
        pairs = zip(self.points, self.points[1:])
        return [_least(after, measure) / _least(before, measure) / (after.rows / before.rows) for before, after in pairs]

    def verdict(self) -> str:
        """A sentence."""
        if not self.right:
            return f"{self.what} rows: an output is wrong or missing, so nothing can be said."
        parts = []
        for measure in MEASURES[:2]:
            worst = max(self.steps(measure))
            grew = "faster than rows" if worst > TOLERANCE else "no faster than rows"
            parts.append(
                f"{measure.name} time grew {grew} (as rows^{self.exponent(measure):.2f}; worst step {worst:.2f} times its share)"
            )
        times = self.points[-1].rows / self.points[0].rows
        return f"{times:g} times the {self.what} rows: {', '.join(parts)}."


def series(base: Shape, factors: Sequence[int], measure: Callable[[Shape, str], Result]) -> list[Series]:
    """Measures growing feature rows, then growing entity rows; the other kind, the entities and all else stay."""
    found = []
    for what in ("feature", "entity"):
        points = []
        for factor in factors:
            if what == "feature":
                shape = replace(base, feature_rows=base.feature_rows * factor)
                rows = shape.feature_rows * shape.views
            else:
                shape = replace(base, entity_rows=base.entity_rows * factor)
                rows = shape.entity_rows
            points.append(Point(factor, shape, rows, measure(shape, f"{what} rows x {factor}")))
        found.append(Series(what, points))
    return found


def table(all_series: Sequence[Series]) -> list[list[str]]:
    per_row = [f"{measure.name} ns a row" for measure in MEASURES[:2]]
    rows = [["grows", "by", "entity rows", "feature rows", *(measure.name for measure in MEASURES), *per_row, "wrong rows"]]
    for one in all_series:
        for point in one.points:
            result = point.result
            values = [result.values(measure) for measure in MEASURES]
            rows.append(
                [
                    f"{one.what} rows",
                    f"{point.factor}",
                    f"{point.shape.entity_rows:,}",
                    f"{point.shape.feature_rows * point.shape.views:,}",
                    *(measure.range(of) for measure, of in zip(MEASURES, values, strict=True)),
                    *(f"{statistics.median(of) / point.rows * 1e9:,.0f}" if of else "-" for of in values[:2]),
                    "failed" if result.failure else f"{result.wrong_rows:,}" if result.verified or result.wrong_rows else "wrong",
                ]
            )
    return rows


def data(all_series: Sequence[Series]) -> list[dict[str, Any]]:
    return [
        {
            "grows": one.what,
            "verdict": one.verdict(),
            "points": [
                {"factor": point.factor, "rows": point.rows, "shape": asdict(point.shape), **figures([point.result])[0]}
                for point in one.points
            ],
        }
        for one in all_series
    ]


def _least(point: Point, measure: Measure) -> float:
    return min(point.result.values(measure))
