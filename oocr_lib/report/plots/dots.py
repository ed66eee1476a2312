"""Dots with intervals, one row a condition: what a reader quotes when conditions have names."""

from __future__ import annotations

from typing import Any

from oocr_lib.report.plots.base import (
    INK,
    Chart,
    canvas,
    headed,
    interval_key,
    legend_below,
    line_look,
    styled,
    titled,
)
from oocr_lib.report.plots.meanings import looks
from oocr_lib.report.plots.tables import Table, check_intervals, frame
from oocr_lib.util.errors import UserError


@styled
def dot_panels(table: Table, title: str, xlabel: str, ylabel: str, over: str = "runs") -> Chart:
    """Draw one panel for each ``panel`` (a task), one row a condition, one dot a method.

    Args:
        table: columns panel, row, method, value, low, high and, if known, n. Rows stand from top to
            bottom in the table's order; a method that a condition lacks leaves a gap.
        over: what the intervals are over.

    Raises:
        UserError: a wrong table, or a method twice in one row of a panel.
    """
    data = frame(table, ["value", "low", "high"], ["panel", "row", "method"], "dot_panels")
    check_intervals(data, "dot_panels")
    double = data[data.duplicated(["panel", "row", "method"])]
    if len(double):
        row = double.iloc[0]
        raise UserError(
            f"dot_panels: {row['method']!r} stands twice at {row['row']!r} in {row['panel']!r}. "
            "Average its runs before drawing."
        )
    names, look = list(dict.fromkeys(data["panel"])), looks(data["method"])
    rows = {name: list(dict.fromkeys(data[data["panel"] == name]["row"])) for name in names}
    figure = canvas(height=2.4 + 0.3 * max(len(listed) for listed in rows.values()))
    drawn: dict[str, Any] = {}
    for ax, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        own = data[data["panel"] == name]
        for k, (method, shape) in enumerate(look.items()):
            part = own[own["method"] == method]
            shift = 0.5 * (k - (len(look) - 1) / 2) / len(look)
            y = [rows[name].index(row) + shift for row in part["row"]]
            ax.hlines(y, part["low"], part["high"], color=shape.color, lw=1.5, zorder=2)
            style = line_look(shape) | {"ls": "none"}
            drawn[method] = ax.plot(part["value"], y, clip_on=False, zorder=3, **style)[0]
        ax.axvline(0, color=INK, lw=0.8, zorder=1)
        ax.set_yticks(range(len(rows[name])), rows[name])
        ax.invert_yaxis()
        ax.grid(axis="x")
        ax.set_xlim(min(-0.05, data["low"].min()), max(1.05, data["high"].max()))
        titled(ax, name, xlabel, ylabel if name == names[0] else "", size=12)
    headed(figure, title)
    legend_below(figure, [*(drawn[method] for method in look), interval_key(data, over)])
    return figure
