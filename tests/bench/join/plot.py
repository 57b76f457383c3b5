"""The plots, as PNG and SVG."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from report import MEASURES, Result

if TYPE_CHECKING:
    from growth import Series

# Told apart in grey and with the common kinds of colour blindness.
MEZZE, PEER, REFERENCE = "#0072b2", "#b8b8b8", "#d55e00"
plt.rcParams.update({"font.size": 9, "svg.hashsalt": "mezze", "axes.spines.top": False, "axes.spines.right": False})


def compare(results: Sequence[Result], title: str, folder: Path) -> None:
    """Wall time, CPU time and peak memory side by side: bars are medians, dots are runs. Only verified engines are drawn."""
    drawn = sorted(
        (one for one in results if one.verified), key=lambda one: statistics.median(one.values(MEASURES[0])), reverse=True
    )
    if not drawn:
        return
    figure, panels = plt.subplots(1, len(MEASURES), figsize=(10, 1.4 + 0.42 * len(drawn)), sharey=True)
    for panel, measure in zip(panels, MEASURES, strict=True):
        for place, one in enumerate(drawn):
            values = one.values(measure)
            median = statistics.median(values)
            panel.barh(place, median, height=0.62, color=MEZZE if one.name == "mezze" else PEER)
            panel.plot(values, [place] * len(values), ".", color="black", markersize=4)
            panel.annotate(
                f"{measure.text(median)} {measure.unit}",
                (max(values), place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
            )
        panel.set_title(f"{measure.name}, {measure.unit}", loc="left")
        panel.set_xlim(0, max(max(one.values(measure)) for one in drawn) * 1.3)
        panel.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(drawn)), [one.title for one in drawn])
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    _save(figure, folder / "join")


def growth(series: Sequence[Series], title: str, folder: Path) -> None:
    """Time against rows, both logarithmic, with the line on which time grows as rows do."""
    figure, panels = plt.subplots(1, len(series), figsize=(5 * len(series), 3.6), squeeze=False)
    for panel, one in zip(panels[0], series, strict=True):
        rows = [point.rows for point in one.points]
        for measure, colour in zip(MEASURES[:2], (MEZZE, "black"), strict=True):
            values = [statistics.median(point.result.values(measure)) for point in one.points]
            panel.plot(rows, values, "o-", color=colour, markersize=4, label=measure.name)
            panel.plot(rows, [values[0] * count / rows[0] for count in rows], ":", color=REFERENCE, label=None)
        panel.plot([], [], ":", color=REFERENCE, label="as rows do")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log", base=2)
        panel.set_xticks(rows, [f"{count:,}" for count in rows])
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.set_xlabel(f"{one.what} rows")
        panel.set_ylabel("s")
        panel.legend(frameon=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    _save(figure, folder / "join-growth")


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path.with_suffix(".png"), dpi=150)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)
