"""A generated data set on disk: which files it has, and what is in them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from options import Shape, shape_from

# Changes when the generator or the oracle would give other bytes for the same shape, so that old folders are not used again.
FORMAT = 1
ENTITY_COLUMNS = ("row_id", "user_id", "item_id", "event_timestamp", "label")


@dataclass(frozen=True)
class View:
    """A feature view."""

    name: str
    keys: tuple[str, ...]
    ttl_seconds: int
    # Name and type (`double`, `int64`, `string`) of each.
    features: tuple[tuple[str, str], ...]

    @property
    def feature_names(self) -> list[str]:
        return [name for name, _ in self.features]


@dataclass(frozen=True)
class Dataset:
    """The entity rows, the views and the expected answer, in one folder."""

    folder: Path
    shape: Shape
    views: tuple[View, ...]

    @property
    def entity_file(self) -> Path:
        return self.folder / "entity_rows.parquet"

    def view_file(self, view: View) -> Path:
        return self.folder / f"{view.name}.parquet"

    def expected_file(self, view: View) -> Path:
        """The features of this view for each entity row, in the order of the entity rows."""
        return self.folder / "expected" / f"{view.name}.parquet"

    @property
    def expected_is_there(self) -> bool:
        return (self.folder / "expected" / "done").exists()

    def write(self) -> None:
        """Comes last: a folder without it is not whole."""
        described = {"format": FORMAT, "shape": asdict(self.shape), "views": [asdict(view) for view in self.views]}
        (self.folder / "dataset.json").write_text(json.dumps(described, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Dataset | None:
        """The data set in the folder, or nothing if there is none, or one of another format."""
        try:
            described = json.loads((folder / "dataset.json").read_text())
        except FileNotFoundError:
            return None
        if described["format"] != FORMAT:
            return None
        views = tuple(
            View(view["name"], tuple(view["keys"]), view["ttl_seconds"], tuple((name, kind) for name, kind in view["features"]))
            for view in described["views"]
        )
        return cls(folder, shape_from(described["shape"]), views)


def views_of(shape: Shape) -> tuple[View, ...]:
    """The views of a shape: by user and by item in turn, and one by both that has no ttl."""
    ttls = (7 * DAY, DAY, 0, 30 * DAY, 3600)
    # Where there are fewer than three views, the last has no ttl; a single one keeps its ttl, whose edges are to be tested.
    forever = min(2, shape.views - 1) if shape.views > 1 else None
    kinds = ("double", "int64", "string")
    views = []
    for number in range(shape.views):
        keys: tuple[str, ...] = (("user_id",), ("item_id",))[number % 2]
        ttl = ttls[number % len(ttls)]
        if number == forever:
            ttl = 0
            if shape.composite:
                keys = ("user_id", "item_id")
        elif ttl == 0:
            ttl = 14 * DAY
        features = tuple((f"v{number}_f{index}", kinds[index % len(kinds)]) for index in range(shape.features))
        views.append(View(f"view{number}", keys, ttl, features))
    return tuple(views)


DAY = 86_400
