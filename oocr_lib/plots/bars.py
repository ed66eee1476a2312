"""Bar charts: one bar a method, groups of bars a family, answers of one question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke

from oocr_lib.errors import UserError
from oocr_lib.plots.base import (
    CHANCE,
    INK,
    WIDTH,
    Chart,
    canvas,
    fraction_limits,
    interval,
    legend_below,
    looks,
    styled,
    titled,
    wrap,
)
from oocr_lib.plots.tables import Table, check_intervals, finite, frame

Chance = float | Mapping[str, float] | None


@styled
def method_bars(
    table: Table,
    chance: Chance,
    title: str,
    ylabel: str = "accuracy",
    paper: Mapping[str, float] | None = None,
) -> Chart:
    """Draw one bar a method with its 95 % interval; the number of runs stands under its name.

    Args:
        table: columns method, value, low, high, n (runs); one row a method, drawn in this order.
        chance: the chance level, or name -> level for several, or None when there is none.
        paper: method -> the paper's value, drawn as an open diamond beside ours.

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
    for x, method, value in zip(places, data["method"], data["value"], strict=True):
        _bar(ax, [x], [float(value)], str(method), look, width=0.62)
    interval(ax, places, data["low"].tolist(), data["high"].tolist())
    if published:
        handles.append(_paper_marks(ax, data["method"].tolist(), published))
    handles.append(_interval_key())
    ax.set_xticks(places, _tick_labels(data))
    ax.set_xlim(-0.6, len(data) - 0.4)
    titled(ax, title, "method (n = runs)", ylabel)
    fraction_limits(ax, [*data["value"], *data["low"], *data["high"], *published.values()])
    legend_below(figure, handles)
    return figure


@styled
def family_bars(
    table: Table,
    chance: Mapping[str, float] | float | None,
    title: str,
    ylabel: str = "accuracy",
    xlabel: str = "question family",
) -> Chart:
    """Draw groups of bars, one group a question family, one bar a method, with intervals.

    Args:
        table: columns family, method, value, low, high; one row a family and method.
        chance: family -> chance level (a number holds for all families; None draws no line).

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
    figure = canvas(
        height=4.8, width=max(WIDTH, min(12.0, 0.2 * len(families) * (len(methods) + 1)))
    )
    ax = figure.add_subplot()
    handles: list[Any] = _family_chance(ax, families, levels)
    width, look = 0.8 / len(methods), looks(methods)
    for k, method in enumerate(methods):
        rows = data[data["method"] == method]
        shift = (k - (len(methods) - 1) / 2) * width
        xs = [families.index(family) + shift for family in rows["family"]]
        handles.append(_bar(ax, xs, rows["value"].tolist(), method, look, width * 0.92))
        interval(ax, xs, rows["low"].tolist(), rows["high"].tolist(), cap=2.5)
    ax.set_xticks(range(len(families)), [wrap(name.replace("_", " "), 12) for name in families])
    ax.set_xlim(-0.55, len(families) - 0.45)
    titled(ax, title, xlabel, ylabel)
    fraction_limits(ax, [*data["value"], *data["low"], *data["high"], *levels.values()])
    legend_below(figure, [*handles, _interval_key()])
    return figure


@styled
def option_bars(
    options: Sequence[str],
    probabilities_by_condition: Mapping[str, Sequence[float]],
    title: str,
    truth: str | None = None,
) -> Chart:
    """Draw the probability of each candidate answer, one bar a condition (base, vector, ...).

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
        bars = _bar(ax, xs, heights, condition, look, width * 0.92)
        if len(names) * len(conditions) <= 16:
            for text in ax.bar_label(bars, [f"{p:.2f}" for p in heights], padding=2, fontsize=10):
                text.set_path_effects([Stroke(linewidth=3, foreground="white"), Normal()])
        handles.append(bars)
    ax.set_xticks(range(len(names)), [wrap(name, 14) for name in names])
    for tick, name in zip(ax.get_xticklabels(), names, strict=True):
        tick.set_fontweight("bold" if name == truth else "normal")
    titled(
        ax, title, "candidate answer" + (" (bold: the right one)" if truth else ""), "probability"
    )
    fraction_limits(ax, [0.0, 1.0])
    ax.set_ylim(0, 1.1)
    legend_below(figure, handles)
    return figure


def _bar(
    ax: Axes,
    xs: Sequence[float],
    heights: Sequence[float],
    method: str,
    look: Mapping[str, tuple[str, str, str, str]],
    width: float,
) -> BarContainer:
    color, _, label, hatch = look[method]
    return ax.bar(
        xs, heights, width, color=color, label=label, hatch=hatch, edgecolor="white", zorder=2
    )


def _chance_lines(ax: Axes, chance: Chance) -> list[Any]:
    if chance is None:
        return []
    levels = chance if isinstance(chance, Mapping) else {"": chance}
    lines = []
    for style, (name, level) in zip(("--", ":", "-.", (0, (1, 3))), levels.items(), strict=False):
        value = finite(level, f"chance {name}".strip())
        label = f"chance{', ' + name if name else ''} ({value:.2f})"
        lines.append(ax.axhline(value, color=CHANCE, ls=style, lw=1.6, zorder=3, label=label))
    return lines


def _family_chance(ax: Axes, families: Sequence[str], levels: Mapping[str, float]) -> list[Any]:
    for family, value in levels.items():
        x = families.index(family)
        ax.hlines(value, x - 0.46, x + 0.46, color=CHANCE, ls="--", lw=1.6, zorder=3)
    return [Line2D([], [], color=CHANCE, ls="--", lw=1.6, label="chance")] if levels else []


def _paper_marks(ax: Axes, methods: Sequence[str], published: Mapping[str, float]) -> Any:
    xs = [methods.index(name) + 0.2 for name in published]
    return ax.plot(
        xs,
        list(published.values()),
        ls="none",
        marker="D",
        ms=9,
        mfc="white",
        mec=INK,
        mew=1.8,
        zorder=5,
        clip_on=False,
        label="paper (Gemma 3 12B)",
    )[0]


def _interval_key() -> Any:
    return Line2D([], [], color=INK, lw=1.6, marker="|", ms=9, label="95 % interval over runs")


def _tick_labels(data: pd.DataFrame) -> list[str]:
    look, width = looks(data["method"]), max(8, 74 // max(len(data), 4))
    return [
        f"{wrap(look[str(name)][2], width)}\nn = {int(n)}"
        for name, n in zip(data["method"], data["n"], strict=True)
    ]


def _once(names: Sequence[str], what: str) -> None:
    twice = [name for name in dict.fromkeys(names) if list(names).count(name) > 1]
    if twice:
        raise UserError(f"{what} {twice[0]!r} comes twice. Average its rows before drawing.")


def _numbers(given: Mapping[str, float], allowed: Sequence[str], what: str) -> dict[str, float]:
    for name in given:
        if name not in allowed:
            raise UserError(f"{what} {name!r}: no such row. In the table: {', '.join(allowed)}.")
    return {name: finite(value, f"{what} {name!r}") for name, value in given.items()}


def _check_options(
    names: Sequence[str], given: Mapping[str, Sequence[float]], truth: str | None
) -> None:
    if not names or not given:
        raise UserError("option_bars: nothing to draw. Pass at least one option and one condition.")
    for condition, values in given.items():
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
