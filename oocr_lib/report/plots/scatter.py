"""Points: predicted against true distances, one number against another, conditions by name."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

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
def distance_scatter(table: Table, title: str) -> Chart:
    """Draw predicted over true distances with the identity line and a ±10 % band.

    Args:
        table: columns true, predicted, in hundreds of km; a column method is optional and gives
            one color per method. Points that coincide are drawn once, larger.

    Raises:
        UserError: a wrong table.
    """
    data = frame(table, ["true", "predicted"], [], "distance_scatter")
    data["method"] = data["method"].astype(str) if "method" in data.columns else "answers"
    top = 1.05 * float(max(data["true"].max(), data["predicted"].max(), 1.0))
    figure = canvas(height=6.0, width=6.4)
    ax = figure.add_subplot(aspect="equal")
    ax.fill_between([0, top], [0, 0.9 * top], [0, 1.1 * top], color="#DDDDDD", lw=0, zorder=1)
    ax.plot([0, top], [0, top], color=INK, lw=1.4, ls="--", zorder=2)
    handles: list[Any] = [
        Line2D([], [], color=INK, lw=1.4, ls="--", label="predicted = true"),
        Patch(color="#DDDDDD", label="within 10 %"),
    ]
    for method, look in looks(data["method"]).items():
        rows = data[data["method"] == method]
        share = ((rows["predicted"] - rows["true"]).abs() <= 0.1 * rows["true"]).mean()
        points = rows.groupby(["true", "predicted"]).size().reset_index(name="count")
        text = f"{look.label}: {100 * share:.0f} % within 10 % (n = {len(rows)}; larger: several)"
        handle = ax.scatter(
            points["true"],
            points["predicted"],
            s=22 + 14 * (points["count"].to_numpy() - 1),
            c=look.color,
            marker=look.marker,
            alpha=0.75,
            edgecolors="white",
            linewidths=0.5,
            zorder=3,
            label=text,
        )
        handles.append(handle)
    low = min(0.0, float(data["predicted"].min()) * 1.05)
    ax.set_xlim(0, top)
    ax.set_ylim(low, top)
    ax.grid(True, axis="both")
    titled(ax, title, "true distance (hundreds of km)", "predicted distance (hundreds of km)")
    legend_below(figure, handles, columns=1 if len(handles) > 3 else 2)
    return figure


@styled
def relation_scatter(
    table: Table, title: str, xlabel: str, ylabel: str, level: float | None = None
) -> Chart:
    """Draw one number over another, one color per group, with the groups' medians over ten bins.

    Args:
        table: columns x, y; a column method is optional and gives one color per method.
        level: a horizontal line, for instance 0 for cosines; the legend gives its value.

    Raises:
        UserError: a wrong table.
    """
    data = frame(table, ["x", "y"], [], "relation_scatter")
    data["method"] = data["method"].astype(str) if "method" in data.columns else "pairs"
    figure = canvas(height=4.8)
    ax = figure.add_subplot()
    handles: list[Any] = []
    if level is not None:
        label = f"{ylabel} {level:g}"
        handles.append(ax.axhline(level, color=INK, lw=1.2, zorder=1, label=label))
    bins = pd.interval_range(data["x"].min(), data["x"].max() + 1e-9, 10, closed="left")
    for method, look in looks(data["method"]).items():
        rows, shape = data[data["method"] == method], line_look(look)
        shape["label"] = f"{look.label} (n = {len(rows)}; line: medians)"
        edge = {"edgecolors": look.color, "linewidths": 0.9, "facecolors": shape["mfc"]}
        ax.scatter(rows["x"], rows["y"], s=26, marker=look.marker, alpha=0.7, **edge)
        medians = rows.groupby(pd.cut(rows["x"], bins), observed=True)[["x", "y"]].median()
        ax.plot(medians["x"], medians["y"], color=look.color, ls=look.line, zorder=3)
        handles.append(Line2D([], [], **shape))
    titled(ax, title, xlabel, ylabel)
    legend_below(figure, handles)
    return figure


@styled
def dot_panels(table: Table, title: str, xlabel: str, ylabel: str, over: str = "runs") -> Chart:
    """Draw one panel for each ``panel`` (a task), one row per condition, one dot per method.

    Args:
        table: columns panel, row, method, value, low, high and, if known, n. Rows stand from top to
            bottom in the table's order; a method that a condition lacks leaves a gap.
        over: what the intervals are over.

    Raises:
        UserError: a wrong table, or a method twice in one row of a panel.
    """
    data = frame(table, ["value", "low", "high"], ["panel", "row", "method"], "dot_panels")
    check_intervals(data, "dot_panels")
    duplicates = data[data.duplicated(["panel", "row", "method"])]
    if len(duplicates):
        row = duplicates.iloc[0]
        raise UserError(
            f"dot_panels: {row['method']!r} stands twice at {row['row']!r} in {row['panel']!r}. "
            "Average its runs before drawing."
        )
    names, look = list(dict.fromkeys(data["panel"])), looks(data["method"])
    rows = {name: list(dict.fromkeys(data[data["panel"] == name]["row"])) for name in names}
    figure = canvas(height=2.4 + 0.3 * max(len(labels) for labels in rows.values()))
    handles: dict[str, Any] = {}
    for ax, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        panel = data[data["panel"] == name]
        for k, (method, method_look) in enumerate(look.items()):
            part = panel[panel["method"] == method]
            shift = 0.5 * (k - (len(look) - 1) / 2) / len(look)
            y = [rows[name].index(row) + shift for row in part["row"]]
            ax.hlines(y, part["low"], part["high"], color=method_look.color, lw=1.5, zorder=2)
            style = line_look(method_look) | {"ls": "none"}
            handles[method] = ax.plot(part["value"], y, clip_on=False, zorder=3, **style)[0]
        ax.axvline(0, color=INK, lw=0.8, zorder=1)
        ax.set_yticks(range(len(rows[name])), rows[name])
        ax.invert_yaxis()
        ax.grid(axis="x")
        # An interval that ends in the axis would look cut off.
        ax.set_xlim(min(-0.05, data["low"].min() - 0.05), max(1.05, data["high"].max() + 0.05))
        titled(ax, name, xlabel, ylabel if name == names[0] else "", size=12)
    headed(figure, title)
    legend_below(figure, [*(handles[method] for method in look), interval_key(data, over)])
    return figure
