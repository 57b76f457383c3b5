"""Times one expression over many rows in Mezze and in DuckDB. `run` says how it is called."""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# Ten operations: three products, two sums, a quotient, a comparison, a CASE, a greatest, and a coalesce.
EXPRESSION = (
    "greatest(CASE WHEN a * 2.0 + b > c THEN (a + b) * c ELSE a * b / (c + 1.0) END, coalesce(d, 0.5))"
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        rows = work / "rows.parquet"
        expected = generate(rows, options.rows)
        taken: dict[str, list[tuple[float, float]]] = {"mezze": [], "duckdb": []}
        for number in range(options.rounds):
            for engine in ("mezze", "duckdb") if number % 2 == 0 else ("duckdb", "mezze"):
                out = work / f"{engine}.parquet"
                before = usage()
                began = time.perf_counter()
                (run_mezze if engine == "mezze" else run_duckdb)(rows, out, options.threads)
                wall, cpu = time.perf_counter() - began, usage() - before
                found = pq.read_table(out, columns=["result"])["result"].to_numpy(zero_copy_only=False)
                if not np.array_equal(found.view(np.uint64), expected.view(np.uint64)):
                    sys.exit(f"{engine}: the result is not what numpy has")
                out.unlink()
                taken[engine].append((wall, cpu))
                print(f"round {number + 1}  {engine:7} wall {wall:.2f} s, CPU {cpu:.2f} s  right", flush=True)
        print(f"\n{options.rows:,} rows, ten operations, {options.threads} threads, {options.rounds} rounds: medians")
        median = {
            engine: [statistics.median(run[place] for run in runs) for place in (0, 1)] for engine, runs in taken.items()
        }
        for engine, (wall, cpu) in median.items():
            print(f"{engine:8} wall {wall:6.2f} s   CPU {cpu:6.2f} s   {options.rows / wall / 1e6:6.2f} M rows/s")
        print(
            "Mezze's speed is {:.2f} times DuckDB's by wall time, {:.2f} by CPU time.".format(
                *(median["duckdb"][place] / median["mezze"][place] for place in (0, 1))
            )
        )


def usage() -> float:
    """CPU seconds of this process and of its children."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def generate(path: Path, rows: int) -> np.ndarray:
    """Writes a to d, of which d has nulls, and returns what the expression gives."""
    random = np.random.default_rng(7)
    a, b, c = (random.normal(size=rows) for _ in range(3))
    d = random.normal(size=rows)
    null = random.random(rows) < 0.1
    table = pa.table({"a": a, "b": b, "c": c, "d": pa.array(d, mask=null)})
    pq.write_table(table, path, row_group_size=1 << 18, compression="snappy", use_dictionary=False)
    chosen = np.where(a * 2.0 + b > c, (a + b) * c, a * b / (c + 1.0))
    other = np.where(null, 0.5, d)
    return np.where(chosen < other, other, chosen)


def run_mezze(rows: Path, out: Path, threads: int) -> None:
    """The whole process, its start too."""
    command = [os.environ["MEZZE"], "--quiet", "eval", EXPRESSION, "--rows", str(rows), "--out", str(out), "--threads", str(threads)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def run_duckdb(rows: Path, out: Path, threads: int) -> None:
    """In this process, without the interpreter's start."""
    with duckdb.connect(config={"threads": threads, "preserve_insertion_order": True}) as connection:
        connection.execute(
            f"COPY (SELECT *, {EXPRESSION} AS result FROM read_parquet('{rows}')) TO '{out}' "
            "(FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 262144)"
        )


if __name__ == "__main__":
    main()
