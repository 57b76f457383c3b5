"""The join benchmark. `run` beside this file sets it up; `options.py` says what it takes."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import growth
import mezze
import plot
import report
from dataset import Dataset
from engines import Engine
from generate import generate
from options import Options, Shape, parse
from oracle import write_expected
from report import MEASURES, Result
from selftest import self_test
from verify import verify


def main() -> int:
    options = parse()
    # So that what a `finally` cleans up is cleaned up then too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = options.work or Path(tempfile.mkdtemp(prefix="mezze-bench-join-"))
    try:
        work.mkdir(parents=True, exist_ok=True)
        work = work.resolve()
        if options.self_test:
            return 0 if self_test(work / "self-test") else 1
        return _growth(options, work) if options.growth else _compare(options, work)
    except (mezze.MezzeError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        return 130
    finally:
        if options.keep:
            say(f"kept {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


def _compare(options: Options, work: Path) -> int:
    machine = report.machine()
    dataset = _dataset(options.shape, work)
    results = _measure(dataset, work, options, options.engines)

    rows, notes = report.table(results), report.remarks(results, options)
    lines = _head(options, options.shape, machine)
    print("\n".join([*lines, "", report.plain(rows), "", *notes]))
    title = "Point-in-time join"
    data = {**_facts(options, machine), "engines": report.figures(results)}
    report.write(options.out, "join", title, lines, rows, notes, data)
    plot.compare(results, f"Point-in-time join, {options.shape.describe()}; {options.threads} threads", options.out)
    say(f"wrote join.md, join.json, join.png and join.svg into {options.out}")
    return _code(results, options)


def _growth(options: Options, work: Path) -> int:
    machine = report.machine()

    def measure(shape: Shape, what: str) -> Result:
        say(f"{what}:")
        folder = work / what.replace(" ", "-")
        folder.mkdir(exist_ok=True)
        dataset = _dataset(shape, folder)
        result = _measure(dataset, folder, options, ("mezze",))[0]
        if not options.keep:
            shutil.rmtree(folder)
        return result

    found = growth.series(options.shape, options.factors, measure)
    rows = growth.table(found)
    results = [point.result for one in found for point in one.points]
    notes = ["A row is one of the kind that grows; feature rows are those of all views.", *(one.verdict() for one in found)]
    if options.memory_bytes:
        notes += [report.memory_remark(result, options) for result in results if result.verified]
    notes += [
        f"{result.title}: {problem}." for result in results for problem in [result.failure, *result.problems[:8]] if problem
    ]
    lines = _head(options, options.shape, machine)
    print("\n".join([*lines, "", report.plain(rows), "", *notes]))
    data = {**_facts(options, machine), "growth": growth.data(found)}
    report.write(options.out, "join-growth", "Point-in-time join: growth", lines, rows, notes, data)
    if all(one.right for one in found):
        plot.growth(
            found, f"Mezze's point-in-time join, {options.threads} threads; at first {options.shape.describe()}", options.out
        )
    say(f"wrote join-growth.md, .json, .png and .svg into {options.out}")
    return _code(results, options)


def _dataset(shape: Shape, work: Path) -> Dataset:
    """The data set in the work folder, with the expected answer: the one that is there, if it has this shape."""
    folder = work / "data"
    dataset = Dataset.read(folder) if folder.exists() else None
    if dataset is None or dataset.shape != shape:
        free, needed = shutil.disk_usage(work).free / 1e9, shape.estimated_bytes() / 1e9
        if free < needed:
            fail(f"{work} has {free:.1f} GB free, and about {needed:.1f} GB are needed; --work names another folder")
        started = time.monotonic()
        if dataset is not None or (folder / "expected").exists():
            shutil.rmtree(folder)
        dataset = generate(shape, folder)
        say(f"made the data in {time.monotonic() - started:.1f} s")
    if not dataset.expected_is_there:
        started = time.monotonic()
        write_expected(dataset)
        say(f"computed the expected answer in {time.monotonic() - started:.1f} s")
    return dataset


def _measure(dataset: Dataset, work: Path, options: Options, names: tuple[str, ...]) -> list[Result]:
    """Runs the engines in turns and compares every output. One that fails is not run again."""
    if "mezze" in names:
        shutil.rmtree(work / "mezze", ignore_errors=True)
        mezze.write_repository(dataset, work / "mezze")
    engines = [Engine(name, dataset, work, options) for name in names]
    results = {engine.name: Result(engine.name) for engine in engines}
    if "mezze" in names:
        results["mezze"].version = mezze.version()
    for turn in range(options.rounds):
        # Each round begins with another, so that nobody always follows the same one.
        first = turn % len(engines)
        for engine in engines[first:] + engines[:first]:
            result = results[engine.name]
            if result.failure is None:
                _run(engine, dataset, result)
                _progress(turn, options, result)
    return list(results.values())


def _run(engine: Engine, dataset: Dataset, result: Result) -> None:
    run = engine.run()
    result.runs.append(run)
    result.version = result.version or run.version
    if run.failure is None:
        verdict = verify(dataset, engine.output, engine.strictness)
        result.wrong_rows = max(result.wrong_rows, verdict.wrong_rows)
        result.problems += [problem for problem in verdict.problems if problem not in result.problems]
    engine.output.unlink(missing_ok=True)


def _progress(turn: int, options: Options, result: Result) -> None:
    run = result.runs[-1]
    took = ", ".join(f"{measure.name} {measure.text(measure.of(run))} {measure.unit}" for measure in MEASURES)
    state = run.failure or ("right" if result.verified else f"WRONG, {result.wrong_rows:,} rows")
    say(f"round {turn + 1}/{options.rounds}  {result.title:27} {took}  {state}")


def _head(options: Options, shape: Shape, machine: dict[str, Any]) -> list[str]:
    rounds = "one round" if options.rounds == 1 else f"{options.rounds} rounds"
    return [
        f"Data: {shape.describe()}. {options.threads} threads, {rounds}; medians and ranges.",
        f"Machine: {report.describe_machine(machine)}.",
    ] + (["The machine was busy with other work: read CPU and memory before wall time."] if report.busy(machine) else [])


def _facts(options: Options, machine: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": asdict(options.shape),
        "machine": machine,
        "threads": options.threads,
        "rounds": options.rounds,
        "memory": options.memory,
        "memory_bytes": options.memory_bytes,
    }


def _code(results: list[Result], options: Options) -> int:
    allowed = report.peak_allowed(options)
    for result in results:
        if result.name == "mezze" and (
            not result.verified or (allowed and max(run.peak_memory for run in result.runs) > allowed)
        ):
            return 1
    return 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    say(f"join/run: {text}")
    sys.exit(2)


if __name__ == "__main__":
    sys.exit(main())
