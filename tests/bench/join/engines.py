"""The programs that are measured: how each is started, and what it took."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from dataset import Dataset
from options import Options
from verify import Strictness

HERE = Path(__file__).resolve().parent
# The engine, and how it is asked.
TITLES = {
    "mezze": ("Mezze", ""),
    "duckdb-late": ("DuckDB", "late"),
    "duckdb-argmax": ("DuckDB", "argmax"),
    "polars-late": ("Polars", "late"),
    "polars-memory": ("Polars", "in memory"),
    "feast-duckdb": ("Feast", "DuckDB store"),
}


@dataclass(frozen=True)
class Run:
    """What one process took. Times are in seconds, memory in bytes."""

    wall: float
    cpu: float
    peak_memory: int
    # Of a peer, what the interpreter and the imports took of it.
    imports_memory: int = 0
    version: str = ""
    # Why there is no output, if there is none.
    failure: str | None = None


class Engine:
    """An engine on a data set; what it writes goes into the work folder."""

    def __init__(self, name: str, dataset: Dataset, work: Path, options: Options) -> None:
        self.name = name
        self._dataset, self._work, self._options = dataset, work, options
        self.output = work / f"{name}.parquet"

    @property
    def is_mezze(self) -> bool:
        return self.name == "mezze"

    @property
    def strictness(self) -> Strictness:
        """Mezze promises the order of the entity rows and the types of the sources; of the others neither is asked."""
        return Strictness(ordered=self.is_mezze, typed=self.is_mezze, nan_is_null=self.name == "feast-duckdb")

    def run(self) -> Run:
        """Runs it once. There is an output unless the run failed."""
        self.output.unlink(missing_ok=True)
        scratch = self._work / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        run = measured(self._command(scratch), self._work, self._options)
        shutil.rmtree(scratch, ignore_errors=True)
        if run.failure is None and not self.output.exists():
            return Run(run.wall, run.cpu, run.peak_memory, failure="it wrote no output")
        return run

    def _command(self, scratch: Path) -> list[str]:
        threads = str(self._options.threads)
        if self.is_mezze:
            command = [os.environ["MEZZE"], "-c", str(self._work / "mezze"), "-q", "get-historical-features"]
            command += [
                "--entities",
                str(self._dataset.entity_file),
                "--service",
                "all",
                "--out",
                str(self.output),
                "--threads",
                threads,
            ]
            return command + (["--memory", self._options.memory] if self._options.memory else [])
        python = os.environ["MEZZE_BENCH_FEAST_PYTHON"] if self.name.startswith("feast") else sys.executable
        command = [python, str(HERE / "peers.py"), self.name, "--data", str(self._dataset.folder), "--out", str(self.output)]
        return [*command, "--threads", threads, "--scratch", str(scratch)]


def measured(command: list[str], work: Path, options: Options) -> Run:
    """Runs the command through measure.py. What a peer says about itself replaces the times of the whole process."""
    spec = {
        "command": command,
        "stdout": str(work / "stdout.txt"),
        "stderr": str(work / "stderr.txt"),
        "timeout": options.timeout,
        "stop_at_bytes": options.stop_at_bytes,
    }
    helper = [sys.executable, "-I", "-S", str(HERE / "measure.py")]
    found = subprocess.run(helper, input=json.dumps(spec), capture_output=True, text=True, check=False)
    if found.returncode:
        raise OSError(f"{command[0]} cannot be run: {found.stderr.strip().splitlines()[-1]}")
    took = json.loads(found.stdout)
    wall, cpu, peak = took["wall"], took["cpu"], took["peak_memory"]
    if took["stopped"] or took["code"]:
        reason = took["stopped"] or f"it failed with code {took['code']}: {_error(work / 'stderr.txt')}"
        return Run(wall, cpu, peak, failure=reason)
    if command[0] == os.environ.get("MEZZE"):
        return Run(wall, cpu, peak)
    own = json.loads((work / "stdout.txt").read_text().strip().splitlines()[-1])
    return Run(own["wall"], own["cpu"], peak, own["imports_memory"], own["version"])


def _error(file: Path) -> str:
    """The line that says what went wrong: the one that begins so, or else the last."""
    lines = [line.strip() for line in file.read_text(errors="replace").splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("error")), lines[-1] if lines else "it said nothing")
