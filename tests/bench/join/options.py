"""The command line of the join benchmark. Uses the standard library only: it is read before anything is installed."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]

ENGINES = ("mezze", "duckdb-late", "duckdb-argmax", "polars-late", "polars-memory", "feast-duckdb")
ORDERS = ("random", "time", "key")


@dataclass(frozen=True)
class Shape:
    """Everything that the generated data depends on. The same shape gives the same bytes."""

    entity_rows: int = 100_000
    feature_rows: int = 1_000_000
    views: int = 3
    entities: int = 50_000
    features: int = 6
    days: int = 60
    zipf: float = 0.8
    seed: int = 7
    null_features: float = 0.05
    null_keys: float = 0.0
    null_created: float = 0.0
    re_emitted: float = 0.05
    duplicate_rows: float = 0.01
    tied_created: bool = False
    order: str = "random"
    string_keys: bool = False
    composite: bool = True
    csv: bool = False

    @property
    def has_full_ties(self) -> bool:
        """Whether rows may agree in keys, event time and created time, so that their place in the file decides."""
        return self.tied_created or self.null_created > 0

    def estimated_bytes(self) -> int:
        """About what the data, the expected answer and two outputs take on disk."""
        entity_row = 40 + 3 * self.views * self.features * 8
        feature_row = 32 + self.features * 8
        total = self.entity_rows * entity_row + self.views * self.feature_rows * feature_row
        return total * 3 if self.csv else total

    def describe(self) -> str:
        """One line for people."""
        views = f"{self.views} views" if self.views > 1 else "one view"
        text = f"{self.entity_rows:,} entity rows, {views} of {self.feature_rows:,} rows, {self.features} features a view"
        default = Shape()
        unusual = [
            f"{name.replace('_', ' ')} {value}"
            for name, value in asdict(self).items()
            if name not in {"entity_rows", "feature_rows", "views", "features", "entities"} and value != getattr(default, name)
        ]
        return ", ".join([text, f"{self.entities:,} entities", *unusual])


SIZES = {
    "small": Shape(),
    "medium": Shape(entity_rows=1_000_000, feature_rows=10_000_000, entities=500_000),
}


@dataclass(frozen=True)
class Options:
    """A checked command line."""

    shape: Shape
    engines: tuple[str, ...]
    threads: int
    rounds: int
    memory: str | None
    memory_bytes: int | None
    growth: bool
    factors: tuple[int, ...]
    self_test: bool
    work: Path | None
    keep: bool
    out: Path
    timeout: float
    stop_at_bytes: int

    def needs(self) -> list[str]:
        """What has to be there beyond the peers."""
        if self.self_test:
            return []
        return [name for name in ("mezze", "feast") if any(engine.startswith(name) for engine in self.engines)]


def parse(arguments: list[str] | None = None) -> Options:
    """Reads and checks the command line; ends the program with a message and code 2 if it is wrong."""
    parser = _parser()
    args = parser.parse_args(arguments)

    shape = SIZES[args.size]
    given = {name: getattr(args, name) for name in asdict(shape) if getattr(args, name, None) is not None}
    if "entity_rows" in given and "entities" not in given:
        given["entities"] = max(10, given["entity_rows"] // 2)
    shape = replace(shape, **given)
    _check_shape(parser, shape)

    if args.engines:
        engines = tuple(dict.fromkeys(part.strip() for part in args.engines.split(",") if part.strip()))
        unknown = [name for name in engines if name not in ENGINES]
        if unknown or not engines:
            parser.error(f"--engines: there is no {', '.join(unknown) or 'engine'}; known: {', '.join(ENGINES)}")
    else:
        engines = tuple(name for name in ENGINES if name != "feast-duckdb")
    if args.feast and "feast-duckdb" not in engines:
        engines += ("feast-duckdb",)
    if args.growth:
        if args.engines or args.feast:
            parser.error("--growth runs Mezze only; --engines and --feast do not go with it")
        engines = ("mezze",)
    if args.memory is not None and "mezze" not in engines:
        parser.error("--memory is for Mezze, which --engines leaves out")
    try:
        factors = tuple(sorted({int(part) for part in args.factors.split(",")}))
    except ValueError:
        factors = ()
    if len(factors) < 2 or factors[0] < 1:
        parser.error("--factors: at least two whole numbers are needed, as in 1,2,4,8")
    return Options(
        shape=shape,
        engines=engines,
        threads=args.threads,
        rounds=args.rounds,
        memory=args.memory,
        memory_bytes=None if args.memory is None else bytes_of(args.memory),
        growth=args.growth,
        factors=factors,
        self_test=args.self_test,
        work=args.work,
        keep=args.keep or args.work is not None,
        out=args.out,
        timeout=args.timeout,
        stop_at_bytes=bytes_of(args.stop_at) if args.stop_at else int(_memory_of_machine() * 0.75),
    )


def bytes_of(text: str) -> int:
    """`512MB`, `1.5GiB` or a number of bytes. KB, MB and GB are powers of 1000, KiB, MiB and GiB of 1024."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text, re.IGNORECASE)
    if not found or (found[3] and not found[2]):
        raise argparse.ArgumentTypeError(f"expected a size such as 512MB or 2GiB, found {text!r}")
    power = "kmgt".find(found[2].lower()) + 1 if found[2] else 0
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


def _size(text: str) -> str:
    if bytes_of(text) == 0:
        raise argparse.ArgumentTypeError("0 bytes are too few")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tests/bench/join/run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Compares Mezze's point-in-time join with DuckDB's and Polars's: the same generated data, the same threads,\n"
            "Parquet to Parquet, each run a process of its own, taking turns. An oracle in numpy computes the exact answer,\n"
            "and every output is compared with it before its time counts.\n\n"
            "What is measured: the whole process of Mezze; of a peer, what comes after its imports. Peak memory is that of\n"
            "the whole process for all."
        ),
        epilog=(
            "examples:\n"
            "  tests/bench/join/run                                  the small set, three rounds\n"
            "  tests/bench/join/run --size medium --rounds 5         a million entity rows, 3 x 10 million feature rows\n"
            "  tests/bench/join/run --work /data/join --size medium  keep the data there and use it again the next time\n"
            "  tests/bench/join/run --null-keys .05 --tied-created   more dirt\n"
            "  tests/bench/join/run --growth                         does time grow faster than rows?\n"
            "  tests/bench/join/run --engines mezze --memory 1GB     does Mezze keep to its memory?\n"
            "  tests/bench/join/run --feast                          Feast's DuckDB store too: minutes, and much memory\n"
            "  tests/bench/join/run --self-test                      are the oracle and the comparison right?\n\n"
            "exit code: 0 if Mezze's outputs are right; 1 if one is wrong, Mezze fails, or takes more than 1.25 times --memory;\n"
            "2 if the command line is wrong or something is missing.\n\n"
            "environment: MEZZE_BENCH_CACHE is where the peers are installed (~/.cache/mezze-bench); MEZZE names a mezze to\n"
            "measure in place of a release build of this checkout."
        ),
    )
    add = parser.add_argument_group("what is run").add_argument
    add("--engines", metavar="LIST", help=f"of: {', '.join(ENGINES)}; all but the last if not given")
    add("--feast", action="store_true", help="Feast 0.67's DuckDB store too")
    add("--threads", type=_positive, default=2, metavar="N", help="threads, the same for all (default 2)")
    add("--rounds", type=_positive, default=3, metavar="N", help="how often each runs (default 3)")
    add("--memory", type=_size, metavar="SIZE", help="passed to mezze as --memory; its peak is compared with 1.25 times it")
    add("--growth", action="store_true", help="Mezze only: more and more feature rows, then entity rows")
    add("--factors", default="1,2,4,8", metavar="LIST", help="of --growth: by how much (default 1,2,4,8)")
    add(
        "--self-test",
        action="store_true",
        help="check the oracle against the literal rule, and the comparison with broken outputs",
    )
    add("--timeout", type=float, default=900, metavar="SECONDS", help="a run that takes longer is ended (default 900)")
    add("--stop-at", type=_size, metavar="SIZE", help="a run that takes more memory is ended (default 75 %% of the machine's)")

    add = parser.add_argument_group("the data (all of it follows from these)").add_argument
    add(
        "--size",
        choices=sorted(SIZES, reverse=True),
        default="small",
        help="small: 100,000 entity rows, 3 views of a million; medium: ten times that",
    )
    add("--entity-rows", type=_positive, metavar="N", help="entity rows")
    add("--feature-rows", type=_positive, metavar="N", help="rows a view")
    add("--views", type=_positive, metavar="N", help="feature views; the third has two join keys and no ttl")
    add("--entities", type=_positive, metavar="N", help="distinct users (half the entity rows); a fifth as many items")
    add("--features", type=_positive, metavar="N", help="features a view: float64, int64 and string in turn")
    add("--days", type=_positive, metavar="N", help="days of history (60)")
    add("--zipf", type=float, metavar="X", help="skew of keys: 0 is even, 1 is strong (0.8)")
    add("--seed", type=int, metavar="N", help="of all random numbers (7)")
    add("--null-features", type=_fraction, metavar="PART", help="features that are null (0.05)")
    add("--null-keys", type=_fraction, metavar="PART", help="keys that are null, in entity and feature rows (0)")
    add("--null-created", type=_fraction, metavar="PART", help="created times that are null (0)")
    add(
        "--re-emitted",
        type=_fraction,
        metavar="PART",
        help="feature rows that are written again with a later created time (0.05)",
    )
    add("--duplicate-rows", type=_fraction, metavar="PART", help="entity rows with the keys and time of another (0.01)")
    add(
        "--tied-created",
        action="store_true",
        default=None,
        help="a tenth of those written again have the same created time: file order decides",
    )
    order = parser.add_mutually_exclusive_group()
    order.add_argument("--sorted", dest="order", action="store_const", const="key", help="feature files sorted by key, then time")
    order.add_argument("--time-ordered", dest="order", action="store_const", const="time", help="feature files sorted by time")
    add("--string-keys", action="store_true", default=None, help="keys are text")
    add("--composite", action=argparse.BooleanOptionalAction, default=None, help="whether one view has two join keys (yes)")
    add("--csv", action="store_true", default=None, help="write the data as CSV too, beside the Parquet files")

    add = parser.add_argument_group("where").add_argument
    add(
        "--work",
        type=Path,
        metavar="FOLDER",
        help="keep data, expected answer and Mezze's repository here, and use them again if the data is the same",
    )
    add("--keep", action="store_true", help="do not delete the temporary folder that is used without --work")
    add(
        "--out",
        type=Path,
        default=ROOT / "target" / "bench-join",
        metavar="FOLDER",
        help="for the table (.md), figures (.json) and plot (.png, .svg); default target/bench-join",
    )
    return parser


def _check_shape(parser: argparse.ArgumentParser, shape: Shape) -> None:
    if shape.zipf < 0:
        parser.error("--zipf: less than 0 means nothing")
    if shape.seed < 0:
        parser.error("--seed: a number from 0 on is needed")
    if shape.entities < 10:
        parser.error("--entities: at least 10 are needed")
    if shape.re_emitted > 0.5:
        parser.error("--re-emitted: at most half of the rows can be")


def _positive(text: str) -> int:
    value = int(float(text)) if re.fullmatch(r"\d+(\.\d+)?e\d+", text) else int(text.replace("_", "").replace(",", ""))
    if value < 1:
        raise argparse.ArgumentTypeError("a number from 1 on is needed")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("a part from 0 to 1 is needed")
    return value


def _memory_of_machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def shape_from(values: dict[str, Any]) -> Shape:
    """The shape that was written as JSON."""
    return Shape(**values)


if __name__ == "__main__":
    print(" ".join(parse().needs()))
