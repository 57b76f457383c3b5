"""Mezze's repository over a data set: the definitions, applied."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from dataset import Dataset

TYPES = {"double": "float64", "int64": "int64", "string": "string"}


class MezzeError(Exception):
    """Mezze could not be asked."""


def write_repository(dataset: Dataset, folder: Path) -> None:
    """Writes the definitions and applies them."""
    (folder / "features").mkdir(parents=True, exist_ok=True)
    (folder / "feature_store.yaml").write_text(
        "project: bench\nregistry: data/registry\nonline_store: { type: directory, path: data/replica }\n"
    )
    (folder / "features" / "bench.yaml").write_text(definitions(dataset))
    _mezze("-c", str(folder), "-q", "apply")


def definitions(dataset: Dataset) -> str:
    """The views of the data set, and a service of all their features."""
    key_type = "string" if dataset.shape.string_keys else "int64"
    lines = ["entities:"]
    for key in sorted({key for view in dataset.views for key in view.keys}):
        lines.append(f"  - {{ name: {key.removesuffix('_id')}, join_keys: [{key}], value_type: {key_type} }}")
    lines.append("sources:")
    for view in dataset.views:
        lines += [
            f"  - name: {view.name}_rows",
            f"    path: {dataset.view_file(view)}",
            "    timestamp_field: event_timestamp",
            "    created_timestamp_column: created",
        ]
    lines.append("feature_views:")
    for view in dataset.views:
        lines += [
            f"  - name: {view.name}",
            f"    entities: [{', '.join(key.removesuffix('_id') for key in view.keys)}]",
            f"    source: {view.name}_rows",
            f"    ttl: {f'{view.ttl_seconds}s' if view.ttl_seconds else 0}",
            "    schema:",
        ]
        lines += [f"      - {{ name: {name}, dtype: {TYPES[kind]} }}" for name, kind in view.features]
    lines += ["feature_services:", f"  - {{ name: all, features: [{', '.join(view.name for view in dataset.views)}] }}"]
    return "\n".join(lines) + "\n"


def version() -> str:
    return _mezze("--version").strip().removeprefix("mezze ")


def _mezze(*arguments: str) -> str:
    done = subprocess.run([os.environ["MEZZE"], *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MezzeError(f"mezze {' '.join(arguments)} failed with code {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout
