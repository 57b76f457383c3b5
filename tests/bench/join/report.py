"""Results: a table for people, figures for programs, and a plot."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engines import TITLES, Run
from options import Options

MIB = 2**20


@dataclass
class Result:
    """What an engine did, all rounds together."""

    name: str
    version: str = ""
    runs: list[Run] = field(default_factory=list)
    wrong_rows: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        engine, formulation = TITLES[self.name]
        return ", ".join(part for part in (f"{engine} {self.version}".strip(), formulation) if part)

    @property
    def verified(self) -> bool:
        """Only then its times count."""
        return bool(self.runs) and not self.wrong_rows and not self.problems and self.failure is None

    @property
    def failure(self) -> str | None:
        return next((run.failure for run in self.runs if run.failure), None)

    def values(self, measure: Measure) -> list[float]:
        return [measure.of(run) for run in self.runs if run.failure is None]


@dataclass(frozen=True)
class Measure:
    """Something that is measured in each run."""

    name: str
    of: Callable[[Run], float]
    unit: str

    def text(self, value: float) -> str:
        return f"{value:.0f}" if self.unit == "MiB" else f"{value:.2f}" if value < 100 else f"{value:.0f}"

    def range(self, values: Sequence[float]) -> str:
        """The median, and from least to greatest."""
        if not values:
            return "-"
        median = self.text(statistics.median(values))
        if len(values) == 1:
            return f"{median} {self.unit}"
        return f"{median} {self.unit} ({self.text(min(values))} to {self.text(max(values))})"


MEASURES = (
    Measure("wall", lambda run: run.wall, "s"),
    Measure("CPU", lambda run: run.cpu, "s"),
    Measure("peak memory", lambda run: run.peak_memory / MIB, "MiB"),
)


def best_peer(results: Sequence[Result], measure: Measure) -> float | None:
    """The least median of a verified peer."""
    medians = [statistics.median(one.values(measure)) for one in results if one.name != "mezze" and one.verified]
    return min(medians, default=None)


def ratio(result: Result, results: Sequence[Result], measure: Measure) -> float | None:
    """The median as a ratio to the best verified peer's."""
    best = best_peer(results, measure)
    return statistics.median(result.values(measure)) / best if best and result.verified else None


def table(results: Sequence[Result]) -> list[list[str]]:
    """The heading and a line for each engine; what is not verified comes last, without a rank."""
    with_ratios = MEASURES if any(one.verified for one in results if one.name != "mezze") else ()
    rows = [
        ["engine", *(measure.name for measure in MEASURES), "wrong rows", *(f"{measure.name} ratio" for measure in with_ratios)]
    ]
    ranked = sorted((one for one in results if one.verified), key=lambda one: statistics.median(one.values(MEASURES[0])))
    for one in [*ranked, *(one for one in results if not one.verified)]:
        ratios = [ratio(one, results, measure) for measure in with_ratios]
        rows.append(
            [
                one.title,
                *(measure.range(one.values(measure)) for measure in MEASURES),
                "failed" if one.failure else f"{one.wrong_rows:,}" if one.verified or one.wrong_rows else "wrong",
                *("-" if value is None else f"{value:.2f}" for value in ratios),
            ]
        )
    return rows


def remarks(results: Sequence[Result], options: Options) -> list[str]:
    """What the table does not say."""
    lines = []
    if any(one.verified for one in results if one.name != "mezze"):
        lines.append("Ratios are of medians, to the best verified peer in that column, each time the best of all formulations.")
    mezze = next((one for one in results if one.name == "mezze" and one.verified), None)
    peers = [one for one in results if one.name != "mezze" and one.verified]
    if mezze and peers:
        parts = [
            f"{max(mezze.values(measure)) / min(min(one.values(measure)) for one in peers):.2f} times the least {measure.name}"
            for measure in MEASURES
        ]
        lines.append(f"The worst run of Mezze against the best run of any peer: {', '.join(parts)}.")
    imports = [run.imports_memory for one in peers for run in one.runs if run.imports_memory]
    if imports:
        took = " to ".join(sorted({f"{memory / MIB:.0f}" for memory in (min(imports), max(imports))}, key=int))
        lines.append(f"Of a peer's memory, the interpreter and the imports take {took} MiB; its times begin after them.")
    if mezze and options.memory_bytes:
        lines.append(memory_remark(mezze, options))
    for one in results:
        if one.failure:
            lines.append(f"{one.title}: {one.failure}.")
        lines += [f"{one.title}, not ranked: {problem}." for problem in one.problems[:8]]
        if len(one.problems) > 8:
            lines.append(f"{one.title}: and {len(one.problems) - 8} more such lines.")
    return lines


def peak_allowed(options: Options) -> float | None:
    return options.memory_bytes * 1.25 if options.memory_bytes else None


def memory_remark(result: Result, options: Options) -> str:
    peak, allowed = max(run.peak_memory for run in result.runs), peak_allowed(options)
    assert allowed is not None and options.memory_bytes is not None
    verdict = "kept" if peak <= allowed else "NOT KEPT"
    return (
        f"With --memory {options.memory} the peak of Mezze is {peak / MIB:.0f} MiB, {peak / options.memory_bytes:.2f} times that"
        f" ({verdict}: at most 1.25 times, {allowed / MIB:.0f} MiB)."
    )


def plain(rows: list[list[str]]) -> str:
    """The table for a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def markdown(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]])


def machine() -> dict[str, Any]:
    """What the figures depend on besides the data."""
    try:
        cpu = next(
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        )
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": memory,
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def describe_machine(found: dict[str, Any]) -> str:
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['memory_bytes'] / 2**30:.0f} GiB, {found['system']};"
        f" load before the first run {found['load_before']}"
    )


def busy(found: dict[str, Any]) -> bool:
    """Whether the load before the first run says that others used the machine."""
    return bool(found["load_before"] > max(1.0, found["cores"] / 2))


def figures(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Everything that was measured, for programs."""
    return [
        {
            "name": one.name,
            "title": one.title,
            "version": one.version,
            "verified": one.verified,
            "wrong_rows": one.wrong_rows,
            "problems": one.problems,
            "ratios_to_best_peer": {measure.name.replace(" ", "_"): ratio(one, results, measure) for measure in MEASURES},
            "runs": [asdict(run) for run in one.runs],
        }
        for one in results
    ]


def write(
    folder: Path, name: str, title: str, lines: list[str], rows: list[list[str]], notes: list[str], data: dict[str, Any]
) -> None:
    """Writes the table and the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"# {title}", *lines, markdown(rows), *notes]
    (folder / f"{name}.md").write_text("\n\n".join(parts) + "\n")
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
