"""Makes one set of rows and two repositories over it, for Feast and for Mezze; or compares what their servers answer.

    server_repos.py FOLDER
    server_repos.py --compare FOLDER FEAST_PORT MEZZE_PORT
"""
import json
import sys
import urllib.request
from pathlib import Path

ENTITIES = 10_000
FEATURES = 50
KINDS = ["int64", "float64", "float32", "string", "bool"]
FEAST = {"int64": "Int64", "float64": "Float64", "float32": "Float32", "string": "String", "bool": "Bool"}


def names():
    return [(f"f{number}", KINDS[number % len(KINDS)]) for number in range(FEATURES)]


def make(folder):
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(7)
    columns = {"user_id": np.arange(ENTITIES, dtype="int64")}
    columns["event_timestamp"] = pd.to_datetime(["2026-01-02T00:00:00Z"] * ENTITIES).as_unit("us")
    for name, kind in names():
        columns[name] = {
            "int64": lambda: random.integers(0, 100_000, ENTITIES),
            "float64": lambda: random.random(ENTITIES),
            "float32": lambda: random.random(ENTITIES).astype("float32"),
            "string": lambda: np.array([f"category {n}" for n in random.integers(0, 100, ENTITIES)], dtype=object),
            "bool": lambda: random.random(ENTITIES) < 0.5,
        }[kind]()
    frame = pd.DataFrame(columns)
    for repo in ("feast", "mezze"):
        (folder / repo / "data").mkdir(parents=True)
        frame.to_parquet(folder / repo / "data" / "rows.parquet", index=False)
    (folder / "feast" / "feature_store.yaml").write_text(
        "project: bench\nprovider: local\nregistry: data/registry.db\n"
        "online_store: { type: sqlite, path: data/online.db }\nentity_key_serialization_version: 3\n"
    )
    fields = ", ".join(f'Field(name="{name}", dtype={FEAST[kind]})' for name, kind in names())
    (folder / "feast" / "definitions.py").write_text(
        "from datetime import timedelta\n"
        "from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType\n"
        "from feast.types import Bool, Float32, Float64, Int64, String\n"
        'user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)\n'
        'rows = FileSource(name="rows", path="data/rows.parquet", timestamp_field="event_timestamp")\n'
        f'view = FeatureView(name="view", entities=[user], ttl=timedelta(days=3650), source=rows, schema=[{fields}])\n'
        'service = FeatureService(name="all", features=[view])\n'
    )
    (folder / "mezze" / "features").mkdir()
    (folder / "mezze" / "feature_store.yaml").write_text(
        "project: bench\nregistry: data/registry\nonline_store: { type: directory, path: data/replica }\n"
    )
    schema = "\n".join(f"      - {{ name: {name}, dtype: {kind} }}" for name, kind in names())
    (folder / "mezze" / "features" / "bench.yaml").write_text(
        "entities:\n  - { name: user, join_keys: [user_id], value_type: int64 }\n"
        "sources:\n  - { name: rows, path: data/rows.parquet, timestamp_field: event_timestamp }\n"
        f"feature_views:\n  - name: view\n    entities: [user]\n    source: rows\n    ttl: 3650d\n    schema:\n{schema}\n"
        "feature_services:\n  - { name: all, features: [view] }\n"
    )
    with open(folder / "bodies", "w") as bodies:
        for user in random.integers(0, ENTITIES, 5_000):
            bodies.write(json.dumps({"feature_service": "all", "entities": {"user_id": [int(user)]}}) + "\n")


def answer(port, body):
    url = f"http://127.0.0.1:{port}/get-online-features"
    request = urllib.request.Request(url, body.encode(), {"content-type": "application/json"})
    response = json.load(urllib.request.urlopen(request))
    pairs = zip(response["metadata"]["feature_names"], response["results"])
    return {name: (column["values"], column["statuses"]) for name, column in pairs}


def compare(folder, feast_port, mezze_port):
    with open(folder / "bodies") as bodies:
        for body in list(bodies)[:50]:
            feast, mezze = answer(feast_port, body), answer(mezze_port, body)
            if feast != mezze:
                different = [name for name in feast if feast[name] != mezze.get(name)]
                sys.exit(f"the servers differ on {body.strip()} in {different}: {feast[different[0]]}, {mezze.get(different[0])}")


if __name__ == "__main__":
    if sys.argv[1] == "--compare":
        compare(Path(sys.argv[2]), *sys.argv[3:])
    else:
        make(Path(sys.argv[1]))
