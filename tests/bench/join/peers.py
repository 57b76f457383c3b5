"""One run of one peer, in a process of its own: Parquet in, Parquet out.

    peers.py ENGINE --data FOLDER --out FILE --threads N --scratch FOLDER

Each formulation is the fastest that was found which is right. Where rows may tie in full, which is what `--tied-created` and
`--null-created` make, the place in the file decides too; otherwise a peer does not have to pay for that.

The last line it prints is JSON: wall and CPU seconds from after the imports, and the memory that the interpreter and the imports
took before.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dataset import Dataset, View

TIME, CREATED = "event_timestamp", "created"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=sorted(ENGINES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    args = parser.parse_args()
    dataset = Dataset.read(args.data)
    if dataset is None:
        sys.exit(f"there is no data in {args.data}")
    work, version = ENGINES[args.engine](dataset, args.out, args.threads, args.scratch)

    before = peak_memory()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"wall": wall, "cpu": cpu, "imports_memory": before, "version": version}))


def peak_memory() -> int:
    """The process's peak so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# Does the imports and returns what is measured, with the engine's version.
Prepared = tuple[Callable[[], None], str]


def duckdb_late(dataset: Dataset, out: Path, threads: int, scratch: Path) -> Prepared:
    """As-of joins on keys and times only, which give row numbers; then the features of those rows."""
    return _duckdb(dataset, out, threads, scratch, _late_query)


def duckdb_argmax(dataset: Dataset, out: Path, threads: int, scratch: Path) -> Prepared:
    """The newest created row of each key and time, with all features, then as-of joins."""
    return _duckdb(dataset, out, threads, scratch, _argmax_query)


def _duckdb(dataset: Dataset, out: Path, threads: int, scratch: Path, query_of: Callable[[Dataset, int, int], str]) -> Prepared:
    import duckdb

    def work() -> None:
        connection = duckdb.connect()
        connection.execute(f"SET threads = {threads}")
        connection.execute(f"SET temp_directory = '{scratch}'")
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("SET TimeZone = 'UTC'")
        bounds = f"SELECT epoch_us(min({TIME})), epoch_us(max({TIME})) FROM '{dataset.entity_file}'"
        row = connection.execute(bounds).fetchone()
        assert row is not None
        query = query_of(dataset, *row)
        connection.execute(f"COPY ({query}) TO '{out}' (FORMAT parquet, COMPRESSION snappy)")

    return work, duckdb.__version__


def _late_query(dataset: Dataset, first: int, last: int) -> str:
    tables, joins, columns = [], [], []
    for view in dataset.views:
        name, rows = view.name, f"read_parquet('{dataset.view_file(view)}', file_row_number = true)"
        keys, pairs = ", ".join(view.keys), _equal(view, "e", "n")
        features = ", ".join(f"f.{feature}" for feature in view.feature_names)
        newest = _newest("file_row_number", dataset)
        tables += [
            f"{name}_newest AS (SELECT {keys}, {TIME}, {newest} AS number FROM {rows}"
            f" WHERE {_within(view, first, last)} GROUP BY ALL)",
            f"{name}_joined AS (SELECT e.row_id, n.number FROM '{dataset.entity_file}' e ASOF JOIN {name}_newest n"
            f" ON {pairs} AND e.{TIME} >= n.{TIME}{_fresh(view, ' WHERE ', 'e', 'n')})",
            f"{name}_rows AS (SELECT j.row_id, {features} FROM {rows} f JOIN {name}_joined j ON f.file_row_number = j.number)",
        ]
        joins.append(f"LEFT JOIN {name}_rows ON {name}_rows.row_id = e.row_id")
        columns += [f"{name}_rows.{feature}" for feature in view.feature_names]
    return f"WITH {', '.join(tables)} SELECT e.*, {', '.join(columns)} FROM '{dataset.entity_file}' e {' '.join(joins)}"


def _argmax_query(dataset: Dataset, first: int, last: int) -> str:
    tables, joins, columns = [], [], []
    for view in dataset.views:
        name, keys = view.name, ", ".join(view.keys)
        rows = f"read_parquet('{dataset.view_file(view)}', file_row_number = {str(dataset.shape.has_full_ties).lower()})"
        packed = "{" + ", ".join(f"{feature}: {feature}" for feature in view.feature_names) + "}"
        tables.append(
            f"{name}_newest AS (SELECT {keys}, {TIME}, {_newest(packed, dataset)} AS features FROM {rows}"
            f" WHERE {_within(view, first, last)} GROUP BY ALL)"
        )
        joins.append(
            f"ASOF LEFT JOIN {name}_newest ON {_equal(view, 'e', f'{name}_newest')} AND e.{TIME} >= {name}_newest.{TIME}"
        )
        for feature in view.feature_names:
            value = f"{name}_newest.features.{feature}"
            fresh = _fresh(view, "", "e", f"{name}_newest")
            columns.append(f"CASE WHEN {fresh} THEN {value} END AS {feature}" if fresh else f"{value} AS {feature}")
    return f"WITH {', '.join(tables)} SELECT e.*, {', '.join(columns)} FROM '{dataset.entity_file}' e {' '.join(joins)}"


def _newest(value: str, dataset: Dataset) -> str:
    if not dataset.shape.has_full_ties:
        return f"arg_max({value}, {CREATED})"
    # A null in a comparison of structs is the greatest, and here it has to be the lowest.
    return f"arg_max({value}, {{created: coalesce(epoch_us({CREATED}), -9223372036854775808), number: file_row_number}})"


def _equal(view: View, left: str, right: str) -> str:
    return " AND ".join(f"{left}.{key} = {right}.{key}" for key in view.keys)


def _within(view: View, first: int, last: int) -> str:
    """Feature rows that no entity row can be near enough to are not read, where the file's statistics tell."""
    bound = f"{TIME} <= make_timestamptz({last}::BIGINT)"
    if view.ttl_seconds:
        bound += f" AND {TIME} >= make_timestamptz({first - view.ttl_seconds * 1_000_000}::BIGINT)"
    return bound


def _fresh(view: View, before: str, left: str, right: str) -> str:
    """That the ttl has not run out; numbers compare faster than times with intervals."""
    if not view.ttl_seconds:
        return ""
    return f"{before}epoch_us({left}.{TIME}) - epoch_us({right}.{TIME}) <= {view.ttl_seconds * 1_000_000}"


def polars_late(dataset: Dataset, out: Path, threads: int, scratch: Path) -> Prepared:
    """As-of joins on keys and times only, which give row numbers; then the features of those rows."""
    pl = _polars(threads)

    def work() -> None:
        entity_rows = pl.read_parquet(dataset.entity_file)
        result = entity_rows
        for view in dataset.views:
            rows = pl.scan_parquet(dataset.view_file(view), row_index_name="number")
            rows = rows.filter(_polars_within(pl, view, entity_rows)).select(*view.keys, TIME, CREATED, "number")
            rows = rows.sort(*view.keys, TIME, CREATED, *(["number"] if dataset.shape.has_full_ties else [])).drop(CREATED)
            narrow = entity_rows.lazy().select("row_id", *view.keys, TIME).sort(*view.keys, TIME)
            joined = narrow.join_asof(rows, **_polars_asof(view)).select("row_id", "number").sort("row_id").collect()
            features = pl.read_parquet(dataset.view_file(view), columns=view.feature_names)
            # Entity rows are numbered in the order of their file.
            result = result.hstack(features.select(pl.all().gather(joined["number"])).get_columns())
        result.write_parquet(out, compression="snappy")

    return work, pl.__version__


def polars_memory(dataset: Dataset, out: Path, threads: int, scratch: Path) -> Prepared:
    """One lazy query of as-of joins with all features, collected in memory."""
    pl = _polars(threads)

    def work() -> None:
        result = pl.scan_parquet(dataset.entity_file)
        times = result.select(TIME).collect()
        for view in dataset.views:
            rows = pl.scan_parquet(dataset.view_file(view), row_index_name="number" if dataset.shape.has_full_ties else None)
            rows = rows.filter(_polars_within(pl, view, times))
            if dataset.shape.has_full_ties:
                rows = rows.sort(TIME, CREATED, "number").drop(CREATED, "number")
            else:
                rows = rows.sort(TIME, CREATED).drop(CREATED)
            result = result.sort(TIME).join_asof(rows, **_polars_asof(view))
        result.collect().write_parquet(out, compression="snappy")

    return work, pl.__version__


def _polars(threads: int) -> Any:
    os.environ["POLARS_MAX_THREADS"] = str(threads)
    import polars

    return polars


def _polars_within(pl: Any, view: View, entity_rows: Any) -> Any:
    first, last = entity_rows.select(first=pl.col(TIME).min(), last=pl.col(TIME).max()).row(0)
    bound = pl.col(TIME) <= last
    return bound & (pl.col(TIME) >= first - pl.duration(seconds=view.ttl_seconds)) if view.ttl_seconds else bound


def _polars_asof(view: View) -> dict[str, Any]:
    tolerance = f"{view.ttl_seconds}s" if view.ttl_seconds else None
    return {"on": TIME, "by": list(view.keys), "strategy": "backward", "tolerance": tolerance, "check_sortedness": False}


def feast_duckdb(dataset: Dataset, out: Path, threads: int, scratch: Path) -> Prepared:
    """Feast's own `get_historical_features` on its DuckDB store, with definitions like those that Mezze gets."""
    os.environ["FEAST_USAGE"] = "False"
    os.environ["ARROW_NUM_THREADS"] = str(threads)
    import warnings
    from datetime import timedelta

    warnings.filterwarnings("ignore")
    import feast
    import ibis
    import pyarrow.parquet as pq
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64, Int64, String

    def work() -> None:
        ibis.set_backend(ibis.duckdb.connect(threads=threads, temp_directory=str(scratch)))
        table = pq.read_table(dataset.entity_file).to_pandas()
        job = store.get_historical_features(entity_df=table, features=features)
        pq.write_table(job.to_arrow(), out, compression="snappy")

    # Applying the definitions is not measured.
    config = RepoConfig(
        project="bench",
        registry=str(scratch / "registry.db"),
        provider="local",
        offline_store={"type": "duckdb"},
        online_store={"type": "sqlite", "path": str(scratch / "online.db")},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    types = {"double": Float64, "int64": Int64, "string": String}
    key, key_type = (String, ValueType.STRING) if dataset.shape.string_keys else (Int64, ValueType.INT64)
    names = sorted({name for view in dataset.views for name in view.keys})
    entities = {name: Entity(name=name, join_keys=[name], value_type=key_type) for name in names}
    views = [
        FeatureView(
            name=view.name,
            entities=[entities[name] for name in view.keys],
            ttl=timedelta(seconds=view.ttl_seconds),
            schema=[Field(name=name, dtype=key) for name in view.keys]
            + [Field(name=name, dtype=types[kind]) for name, kind in view.features],
            source=FileSource(
                name=f"{view.name}_rows",
                path=str(dataset.view_file(view)),
                timestamp_field=TIME,
                created_timestamp_column=CREATED,
            ),
            online=False,
        )
        for view in dataset.views
    ]
    store.apply([*entities.values(), *views])
    features = [f"{view.name}:{name}" for view in dataset.views for name in view.feature_names]
    return work, feast.__version__


ENGINES: dict[str, Callable[[Dataset, Path, int, Path], Prepared]] = {
    "duckdb-late": duckdb_late,
    "duckdb-argmax": duckdb_argmax,
    "polars-late": polars_late,
    "polars-memory": polars_memory,
    "feast-duckdb": feast_duckdb,
}

if __name__ == "__main__":
    main()
