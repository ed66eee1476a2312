"""A metric over one parameter of a sweep: lines over numbers, points over names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from oocr_lib.report.plots.base import (
    CHANCE,
    INK,
    Chart,
    canvas,
    fraction_limits,
    interval,
    interval_key,
    legend_below,
    level_label,
    line_look,
    styled,
    titled,
)
from oocr_lib.report.plots.labels import name_places
from oocr_lib.report.plots.meanings import Look, looks
from oocr_lib.report.plots.tables import Table, check_intervals, finite, frame

#: From this ratio of the largest to the smallest value on, an axis is logarithmic.
_WIDE = 30.0
#: Opacity of a band.
_FAINT = 0.18
#: Up to this many values, each gets a tick.
_FEW = 12


@styled
def by_parameter(
    table: Table,
    title: str,
    xlabel: str,
    ylabel: str,
    chance: float | None = None,
    over: str = "seeds",
) -> Chart:
    """Draw for each method a line with a band if x is a number, else points with bars.

    Args:
        table: columns method, x, value, low, high, n, in the order in which names are drawn.
        chance: a level to mark, or None.
        over: what the intervals are over.

    Raises:
        UserError: a wrong table.
    """
    data = frame(table, ["value", "low", "high", "n"], ["method"], "by_parameter")
    check_intervals(data, "by_parameter")
    x = data["x"]
    figure = canvas(height=4.6)
    key: Artist = interval_key(data, over)
    ax = figure.add_subplot()
    look = looks(data["method"])
    if pd.api.types.is_numeric_dtype(x) and not pd.api.types.is_bool_dtype(x):
        handles = [_line(ax, data[data["method"] == name], look[name]) for name in look]
        _ticks(ax, sorted(set(x)))
        if (data["n"] > 1).any():
            key = Patch(color=INK, alpha=_FAINT, lw=0, label=key.get_label())
    else:
        names = list(dict.fromkeys(x.map(str)))
        places = x.map(lambda value: names.index(str(value)))
        handles = _points(ax, data.assign(x=places), look)
        ax.set_xlim(-0.6, len(names) - 0.4)
        name_places(ax, list(range(len(names))), names)
    if chance is not None:
        level = finite(chance, "by_parameter: chance")
        label = level_label("chance", [level])
        handles.append(ax.axhline(level, color=CHANCE, ls="--", lw=1.6, zorder=1, label=label))
    titled(ax, title, xlabel, ylabel)
    fraction_limits(ax, [*data["value"], *data["low"], *data["high"]])
    legend_below(figure, [*handles, key])
    return figure


def _line(ax: Axes, rows: pd.DataFrame, look: Look) -> Any:
    """A line over numbers, and its interval as a band."""
    rows = rows.sort_values("x")
    if (rows["n"] > 1).any():
        band: dict[str, Any] = {"color": look.color, "alpha": _FAINT, "lw": 0, "zorder": 2}
        ax.fill_between(rows["x"], rows["low"], rows["high"], **band)
    return ax.plot(rows["x"], rows["value"], clip_on=False, zorder=3, **line_look(look))[0]


def _ticks(ax: Axes, places: Sequence[float]) -> None:
    """A logarithmic axis if the values span a wide range; a tick at each value if they are few."""
    if places[0] > 0 and places[-1] / places[0] >= _WIDE:
        ax.set_xscale("log")
        ax.minorticks_off()
    if len(places) <= _FEW:
        ax.set_xticks(places, [f"{x:g}".replace("-", "\N{MINUS SIGN}") for x in places])


def _points(ax: Axes, data: pd.DataFrame, look: dict[str, Look]) -> list[Any]:
    """Points with bars, the methods side by side at each name."""
    handles, share = [], min(0.16, 0.7 / len(look))
    for k, (method, method_look) in enumerate(look.items()):
        rows = data[data["method"] == method]
        x = rows["x"] + (k - (len(look) - 1) / 2) * share
        shape = {"ecolor": method_look.color, "elinewidth": 1.6, "capsize": 3.0, "zorder": 2}
        interval(ax, x.tolist(), rows, **shape)
        style = line_look(method_look) | {"ls": "none"}
        handles += ax.plot(x, rows["value"], clip_on=False, zorder=3, **style)
    return handles
