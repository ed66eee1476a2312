"""Line charts: sweeps over blocks, losses over steps, pretraining over tokens."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from oocr_lib.report.plots.base import (
    CHANCE,
    INK,
    Chart,
    canvas,
    fraction_limits,
    headed,
    interval,
    interval_key,
    legend_below,
    level_label,
    line_look,
    styled,
    titled,
)
from oocr_lib.report.plots.meanings import Look, looks
from oocr_lib.report.plots.tables import Table, as_frame, check_intervals, finite, frame
from oocr_lib.util.errors import UserError


@styled
def layer_sweep(
    table: Table,
    chance: float | None,
    title: str,
    xlabel: str = "block",
    ylabel: str = "accuracy",
    chosen: float | None = None,
    over: str = "runs",
) -> Chart:
    """Draw one line per method (or site) over blocks, with its 95 % interval at every point.

    Methods stand side by side at each block, so that each interval is seen on its own.

    Args:
        table: columns method (or site), block, value, low, high and, if known, n; any order of
            rows. ``block`` may be any number (a strength, a learning rate's exponent) if ``xlabel``
            says so.
        chance: chance level, or None.
        chosen: the block chosen on the validation rows; marked by a vertical line.
        over: what the intervals are over.

    Raises:
        UserError: a wrong table, or a method with two rows for one block.
    """
    data = _sweep_frame(table)
    figure = canvas(height=4.6)
    ax = figure.add_subplot()
    handles = list(_lines(ax, data.rename(columns={"block": "x"}), looks(data["method"])).values())
    if chance is not None:
        value = finite(chance, "layer_sweep: chance")
        label = level_label("chance", [value])
        handles.append(ax.axhline(value, color=CHANCE, ls="--", lw=1.6, zorder=1, label=label))
    if chosen is not None:
        at = finite(chosen, "layer_sweep: chosen")
        label = f"chosen on validation ({xlabel} {at:g})"
        handles.append(ax.axvline(at, color=INK, ls=":", lw=1.6, zorder=1, label=label))
    _ticks(ax, data["block"], 16)
    titled(ax, title, xlabel, ylabel)
    fraction_limits(ax, [*data["value"], *data["low"], *data["high"]])
    legend_below(figure, [*handles, interval_key(data, over)])
    return figure


@styled
def line_panels(
    table: Table,
    chance: Mapping[str, float] | float | None,
    title: str,
    xlabel: str,
    ylabel: str,
    over: str = "runs",
    ticks: Sequence[str] = (),
) -> Chart:
    """Draw one panel for each ``panel`` (a task), one line per method, with 95 % intervals.

    Methods stand side by side at each x, so that each interval is seen on its own.

    Args:
        table: columns panel, method, x, value, low, high and, if known, n; any order of rows.
        chance: panel -> chance level, dashed; a number holds for all, None draws no line.
        over: what the intervals are over.
        ticks: names of x = 0, 1, …, for values that are not evenly spaced (learning rates).

    Raises:
        UserError: a wrong table, a method with two rows for one x of a panel, or an x without a
            name although there are names.
    """
    data = frame(table, ["x", "value", "low", "high"], ["panel", "method"], "line_panels")
    check_intervals(data, "line_panels")
    duplicates = data[data.duplicated(["panel", "method", "x"])]
    if len(duplicates):
        row = duplicates.iloc[0]
        raise UserError(
            f"line_panels: {row['method']!r} has two rows for {row['x']:g} in {row['panel']!r}. "
            "Average its runs before drawing."
        )
    if ticks and not set(data["x"]) <= set(range(len(ticks))):
        raise UserError(
            f"line_panels: x has values outside 0 to {len(ticks) - 1}, where ticks name no place. "
            "Pass x as places in ticks."
        )
    names, look = list(dict.fromkeys(data["panel"])), looks(data["method"])
    levels = chance if isinstance(chance, Mapping) else dict.fromkeys(names, chance)
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure = canvas(height=1.4 + 2.7 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    handles: dict[str, Any] = {}
    for name in names:
        if levels.get(name) is not None:
            finite(levels[name], f"line_panels: chance for {name!r}")
    all_levels = [level for name in names if (level := levels.get(name)) is not None]
    for ax, name in zip(grid.flat, names, strict=False):
        part = data[data["panel"] == name]
        handles |= _lines(ax, part, look)
        if levels.get(name) is not None:
            label = level_label("chance", all_levels)
            handles["chance"] = ax.axhline(
                levels[name], color=CHANCE, ls="--", lw=1.6, zorder=1, label=label
            )
        _ticks(ax, data["x"], 9)
        if ticks:
            ax.set_xticks(range(len(ticks)), ticks)
        ax.tick_params(labelbottom=True)  # also above another panel
        titled(ax, name, xlabel, ylabel, size=12)
        fraction_limits(ax, [*part["value"], *part["low"], *part["high"]])
    for ax in list(grid.flat)[len(names) :]:
        ax.remove()
    headed(figure, title)
    lines = [handles[key] for key in [*look, "chance"] if key in handles]
    legend_below(figure, [*lines, interval_key(data, over)])
    return figure


def _lines(ax: Axes, data: pd.DataFrame, look: Mapping[str, Look]) -> dict[str, Any]:
    """Draw a line with intervals for each method of ``look`` in ``data``; return method -> line."""
    handles = {}
    places = sorted(set(data["x"]))
    gaps = [b - a for a, b in itertools.pairwise(places)]
    gap = min([*gaps, (places[-1] - places[0]) / 5 or 1.0])  # few points are far apart
    share = min(0.14, 0.6 / len(look))  # of the gap between two x, from one method to the next
    for k, (method, method_look) in enumerate(look.items()):
        rows = data[data["method"] == method].sort_values("x")
        if rows.empty:
            continue
        x = rows["x"] + (k - (len(look) - 1) / 2) * share * gap
        shape = {"ecolor": method_look.color, "elinewidth": 1.5, "capsize": 2.5, "zorder": 2}
        interval(ax, x.tolist(), rows, **shape)
        style = line_look(method_look)
        handles[method] = ax.plot(x, rows["value"], clip_on=False, zorder=3, **style)[0]
    return handles


def _ticks(ax: Axes, x: pd.Series, most: int) -> None:
    """A tick at every x that was measured, or at every second or third if there are many."""
    places = sorted(set(x))
    if len(places) <= 2 * most and (x % 1 == 0).all():
        step = -(-len(places) // most)
        ax.set_xticks(
            places[::step],
            [f"{place:g}".replace("-", "\N{MINUS SIGN}") for place in places[::step]],
        )
    elif len(places) <= most:
        ax.set_xticks(places)


@styled
def pretraining_curve(
    table: Table, title: str, chance: Mapping[str, float] | float | None = None
) -> Chart:
    """Draw pretraining in two panels over tokens: the loss, and the accuracy of each family.

    Args:
        table: columns tokens, loss, and one column of accuracies (0 to 1, may be sparse) for each
            question family, in the order of the legend.
        chance: one chance level for all families, or family -> level (dotted, in its color).

    Raises:
        UserError: a wrong table, no family column, or a chance level for an unknown family.
    """
    data = frame(table, ["tokens", "loss"], [], "pretraining_curve").sort_values("tokens")
    families = [str(c) for c in data.columns if c not in ("tokens", "loss")]
    if not families:
        raise UserError(
            "pretraining_curve: no accuracy column. Received: tokens, loss. "
            "Add one column for each question family."
        )
    data = frame(data, ["tokens", "loss"], [], "pretraining_curve", sparse=families)
    scale, unit = (1e6, "millions") if data["tokens"].max() >= 1e6 else (1.0, "number")
    xlabel = f"training tokens ({unit})"
    figure = canvas(height=5.0)
    left, right = figure.subplots(1, 2)
    left.plot(data["tokens"] / scale, data["loss"], color=INK, label="loss")
    titled(left, "Loss", xlabel, "loss (nats per token)", size=12)
    left.set_ylim(bottom=0)
    handles = _family_lines(right, data.assign(tokens=data["tokens"] / scale), families)
    handles += _family_levels(right, families, chance)
    titled(right, "Accuracy", xlabel, "accuracy", size=12)
    fraction_limits(right, [0.0, 1.0])
    headed(figure, title)
    legend_below(figure, handles)
    return figure


def _sweep_frame(table: Table) -> pd.DataFrame:
    columns = as_frame(table, "layer_sweep").columns
    key = "site" if "site" in columns and "method" not in columns else "method"
    data = frame(table, ["block", "value", "low", "high"], [key], "layer_sweep")
    check_intervals(data, "layer_sweep")
    data = data.rename(columns={key: "method"})
    if data.duplicated(["method", "block"]).any():
        row = data[data.duplicated(["method", "block"])].iloc[0]
        raise UserError(
            f"layer_sweep: {row['method']!r} has two rows for block {row['block']:g}. "
            "Average its runs before drawing."
        )
    return data


def _family_lines(ax: Axes, data: pd.DataFrame, families: list[str]) -> list[Any]:
    handles: list[Any] = []
    for family, look in looks(families).items():
        rows = data.dropna(subset=[family])
        shape = line_look(look) | {"ms": 6.5, "lw": 1.8, "markevery": max(1, len(rows) // 8)}
        handles += ax.plot(rows["tokens"], rows[family], **shape)
    return handles


def _family_levels(
    ax: Axes, families: list[str], chance: Mapping[str, float] | float | None
) -> list[Any]:
    if chance is None:
        return []
    if not isinstance(chance, Mapping):
        value = finite(chance, "pretraining_curve: chance")
        line = ax.axhline(
            value, color=CHANCE, ls="--", lw=1.6, label=level_label("chance", [value])
        )
        return [line]
    for family, level in chance.items():
        if family not in families:
            raise UserError(
                f"pretraining_curve: chance for {family!r}: no such column. "
                f"In the table: {', '.join(families)}."
            )
        color = looks(families)[family].color
        ax.axhline(finite(level, f"chance for {family!r}"), color=color, ls=":", lw=1.4)
    return [Line2D([], [], color=CHANCE, ls=":", lw=1.4, label="chance of the family")]
