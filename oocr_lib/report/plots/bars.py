"""Bar charts: one bar per method, one group of bars per family, answers of one question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D

from oocr_lib.report.plots.base import (
    CHANCE,
    INK,
    WIDTH,
    Chart,
    canvas,
    fraction_limits,
    interval,
    interval_key,
    legend_below,
    level_label,
    number,
    styled,
    titled,
)
from oocr_lib.report.plots.labels import name_places
from oocr_lib.report.plots.meanings import Look, looks
from oocr_lib.report.plots.tables import Table, check_intervals, finite, frame
from oocr_lib.util.errors import UserError

Chance = float | Mapping[str, float] | None


@styled
def method_bars(
    table: Table,
    chance: Chance,
    title: str,
    ylabel: str = "accuracy",
    paper: Mapping[str, float] | None = None,
    over: str = "runs",
) -> Chart:
    """Draw one bar per method with its 95 % interval; n stands under its name.

    Args:
        table: columns method, value, low, high, n; one row per method, drawn in this order.
        chance: the chance level, or name -> level for several, or None when there is none.
        paper: method -> the paper's value, drawn as an open diamond beside our bar.
        over: what n counts and the interval is over.

    Raises:
        UserError: a wrong table, a method twice, or a paper value for a method that is not there.
    """
    data = frame(table, ["value", "low", "high", "n"], ["method"], "method_bars")
    check_intervals(data, "method_bars")
    _once(data["method"].tolist(), "method_bars: method")
    published = _numbers(paper or {}, data["method"].tolist(), "method_bars: paper value for")
    figure = canvas(height=4.6)
    ax = figure.add_subplot()
    handles = _chance_lines(ax, chance)
    look, places = looks(data["method"]), list(range(len(data)))
    width = 0.5 if published else 0.62
    for x, method, value in zip(places, data["method"], data["value"], strict=True):
        _bar(ax, [x], [float(value)], look[str(method)], width)
    interval(ax, places, data, capsize=4.0)
    if published:
        handles.append(_paper_marks(ax, data["method"].tolist(), published))
    handles.append(interval_key(data, over, counted=False))
    ax.set_xlim(-0.6, len(data) - 0.4)
    titled(ax, title, f"method (n = {over})", ylabel)
    fraction_limits(ax, [*data["value"], *data["low"], *data["high"], *published.values()])
    _zeros(ax, places, data, look)
    legend_below(figure, handles)
    names = [look[str(name)].label for name in data["method"]]
    name_places(ax, places, names, [f"n = {int(n)}" for n in data["n"]])
    return figure


@styled
def family_bars(
    table: Table,
    chance: Mapping[str, float] | float | None,
    title: str,
    ylabel: str = "accuracy",
    xlabel: str = "question family",
    over: str = "runs",
    zero: str = "",
    paper: Mapping[tuple[str, str], float] | None = None,
) -> Chart:
    """Draw one group of bars per question family, one bar per method, with intervals.

    A bar of height 0 is marked and labelled. Where a method was not measured there is a gap, and
    the axis says so.

    Args:
        table: columns family, method, value, low, high and, if known, n; one row per family
            and method.
        chance: family -> chance level (a number holds for all families; None draws no line). Only
            what guessing would give is chance.
        over: what n counts and the intervals are over.
        zero: what the line at 0 means ("no change"), for values that may be negative.
        paper: family and method -> the paper's value, an open diamond on our bar; left out if
            that bar is not in the table.

    Raises:
        UserError: a wrong table, a pair twice, or a chance level for a family that is not there.
    """
    data = frame(table, ["value", "low", "high"], ["family", "method"], "family_bars")
    check_intervals(data, "family_bars")
    pairs = [f"{f} / {m}" for f, m in zip(data["family"], data["method"], strict=True)]
    _once(pairs, "family_bars: family and method")
    families, methods = list(dict.fromkeys(data["family"])), list(dict.fromkeys(data["method"]))
    level = chance if isinstance(chance, Mapping) else dict.fromkeys(families, chance)
    levels = {k: v for k, v in level.items() if v is not None}
    levels = _numbers(levels, families, "family_bars: chance for")
    inches = max(WIDTH, min(12.0, 0.2 * len(families) * (len(methods) + 1)))
    figure = canvas(height=4.8, width=inches)
    ax = figure.add_subplot()
    handles: list[Any] = _family_chance(ax, families, levels)
    width, look = 0.8 / len(methods), looks(methods)
    places: dict[int, float] = {}  # row of the table -> x
    for k, method in enumerate(methods):
        rows = data[data["method"] == method]
        shift = (k - (len(methods) - 1) / 2) * width
        xs = [families.index(family) + shift for family in rows["family"]]
        handles.append(_bar(ax, xs, rows["value"].tolist(), look[method], width * 0.92))
        places |= dict(zip(rows.index, xs, strict=True))
    order = [places[row] for row in data.index]
    interval(ax, order, data)
    published = {
        places[row]: finite(paper[pair], f"family_bars: paper value for {pair[0]!r} / {pair[1]!r}")
        for row, pair in zip(
            data.index, zip(data["family"], data["method"], strict=True), strict=True
        )
        if paper and pair in paper
    }
    if published:
        handles.append(_diamonds(ax, list(published), list(published.values()), 6.0, 1.4))
    ax.set_xlim(-0.55, len(families) - 0.45)
    gaps = len(data) < len(families) * len(methods)
    titled(ax, title, xlabel + (" (gap: not measured)" if gaps else ""), ylabel)
    ends = [*data["value"], *data["low"], *data["high"], *levels.values(), *published.values()]
    fraction_limits(ax, ends)
    _zeros(ax, order, data, look)
    if zero or data["value"].min() < 0:
        line = ax.axhline(0, color=INK, lw=1.0, zorder=3, label=f"{zero} (0)")
        handles += [line] if zero else []
    legend_below(figure, [*handles, interval_key(data, over)])
    name_places(ax, range(len(families)), [name.replace("_", " ") for name in families])
    return figure


@styled
def option_bars(
    options: Sequence[str],
    probabilities_by_condition: Mapping[str, Sequence[float]],
    title: str,
    truth: str | None = None,
) -> Chart:
    """Draw the probability of each candidate answer, one bar per condition (base, vector, ...).

    Args:
        options: the k candidate answers.
        probabilities_by_condition: condition -> k probabilities, in the order of ``options``.
        truth: the right answer; its name is set in bold. Chance is 1 / k.

    Raises:
        UserError: no options or conditions, unequal lengths, or a value outside 0 to 1.
    """
    names = [str(option) for option in options]
    _check_options(names, probabilities_by_condition, truth)
    conditions = list(probabilities_by_condition)
    figure = canvas(height=3.6)
    ax = figure.add_subplot()
    handles: list[Any] = _chance_lines(ax, 1 / len(names))
    width, look = 0.8 / len(conditions), looks(conditions)
    for k, condition in enumerate(conditions):
        shift = (k - (len(conditions) - 1) / 2) * width
        xs = [i + shift for i in range(len(names))]
        heights = [float(p) for p in probabilities_by_condition[condition]]
        bars = _bar(ax, xs, heights, look[condition], width * 0.92)
        if len(names) * len(conditions) <= 16:
            ax.bar_label(bars, [number(p) for p in heights], padding=2, fontsize=10)
        handles.append(bars)
    titled(
        ax, title, "candidate answer" + (" (bold: the right one)" if truth else ""), "probability"
    )
    fraction_limits(ax, [0.0, 1.0])
    ax.set_ylim(0, 1.1)
    legend_below(figure, handles)
    name_places(ax, range(len(names)), names)
    for tick, name in zip(ax.get_xticklabels(), names, strict=True):
        tick.set_fontweight("bold" if name == truth else "normal")
    return figure


def _bar(
    ax: Axes, xs: Sequence[float], heights: Sequence[float], look: Look, width: float
) -> BarContainer:
    face, edge = ("white", look.color) if look.hollow else (look.color, "white")
    return ax.bar(
        xs,
        heights,
        width,
        color=face,
        edgecolor=edge,
        linewidth=1.2 if look.hollow else 0.6,
        label=look.label,
        hatch=look.hatch,
        zorder=2,
    )


def _zeros(ax: Axes, xs: Sequence[float], data: pd.DataFrame, look: Mapping[str, Look]) -> None:
    """Write 0 at bars too low to be seen, because they were measured."""
    bottom, top = ax.get_ylim()
    columns = (data["method"], data["value"], data["high"])
    for x, method, value, high in zip(xs, *columns, strict=True):
        if abs(float(value)) < 0.004 * (top - bottom):
            ax.plot(
                x,
                0,
                marker="_",
                ms=9,
                mew=3.0,
                color=look[method].color,
                zorder=5,
                clip_on=False,
                gid="zero",
            )
            ax.annotate(
                "0",
                (x, max(float(high), 0.0)),
                (0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=10,
                gid="zero",
                zorder=6,
                bbox={"fc": "white", "ec": "none", "pad": 0.6},
            )


def _chance_lines(ax: Axes, chance: Chance) -> list[Any]:
    if chance is None:
        return []
    levels = chance if isinstance(chance, Mapping) else {"": chance}
    lines = []
    for style, (name, level) in zip(("--", ":", "-.", (0, (1, 3))), levels.items(), strict=False):
        value = finite(level, f"chance {name}".strip())
        label = level_label(f"chance{', ' + name if name else ''}", [value])
        lines.append(ax.axhline(value, color=CHANCE, ls=style, lw=1.6, zorder=3, label=label))
    return lines


def _family_chance(ax: Axes, families: Sequence[str], levels: Mapping[str, float]) -> list[Any]:
    for family, value in levels.items():
        x = families.index(family)
        ax.hlines(value, x - 0.46, x + 0.46, color=CHANCE, ls="--", lw=1.6, zorder=3)
    if not levels:
        return []
    label = level_label("chance", levels.values())
    return [Line2D([], [], color=CHANCE, ls="--", lw=1.6, label=label)]


def _paper_marks(ax: Axes, methods: Sequence[str], published: Mapping[str, float]) -> Any:
    """Diamonds between a method's bar and the next, clear of the names below the axis."""
    xs = [methods.index(name) + 0.38 for name in published]
    ax.tick_params(axis="x", pad=9)
    return _diamonds(ax, xs, list(published.values()), 8.0, 1.8)


def _diamonds(
    ax: Axes, xs: Sequence[float], values: Sequence[float], size: float, edge: float
) -> Any:
    return ax.plot(
        xs,
        values,
        ls="none",
        marker="D",
        ms=size,
        mfc="white",
        mec=INK,
        mew=edge,
        zorder=7,
        clip_on=False,
        label="paper (Gemma 3 12B)",
    )[0]


def _once(names: Sequence[str], what: str) -> None:
    twice = [name for name in dict.fromkeys(names) if list(names).count(name) > 1]
    if twice:
        raise UserError(f"{what} {twice[0]!r} comes twice. Average its rows before drawing.")


def _numbers(values: Mapping[str, float], allowed: Sequence[str], what: str) -> dict[str, float]:
    for name in values:
        if name not in allowed:
            raise UserError(f"{what} {name!r}: no such row. In the table: {', '.join(allowed)}.")
    return {name: finite(value, f"{what} {name!r}") for name, value in values.items()}


def _check_options(
    names: Sequence[str], probabilities: Mapping[str, Sequence[float]], truth: str | None
) -> None:
    if not names or not probabilities:
        raise UserError("option_bars: nothing to draw. Pass at least one option and one condition.")
    for condition, values in probabilities.items():
        if len(values) != len(names):
            raise UserError(
                f"option_bars: {condition!r} has {len(values)} probabilities for {len(names)} "
                "options. Pass one for each option."
            )
        bad = [p for p in values if not 0 <= finite(p, f"option_bars: {condition!r}") <= 1]
        if bad:
            raise UserError(f"option_bars: probability {bad[0]} is outside 0 to 1. Pass fractions.")
    if truth is not None and truth not in names:
        raise UserError(f"option_bars: truth {truth!r} is no option. Options: {', '.join(names)}.")
