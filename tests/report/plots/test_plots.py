"""Every figure: title, axes with units, chance line, intervals, and one-line errors."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from oocr_lib.report import plots
from oocr_lib.util.errors import UserError

mpl.use("Agg")

Rows = list[dict[str, Any]]

BARS: Rows = [
    {"method": "base", "value": 0.2, "low": 0.15, "high": 0.26, "n": 12},
    {"method": "vector_resid", "value": 0.9, "low": 0.8, "high": 0.97, "n": 13},
]
FAMILIES = [{**row, "family": family} for family in ("country", "name") for row in BARS]
SWEEP = [{**row, "block": block} for row in BARS for block in range(4)]
TOKENS = [{"tokens": t * 1e6, "loss": 3.0 - t, "distance": t / 3, "risk": 0.5} for t in range(3)]
DISTANCES = [{"true": t, "predicted": p} for t, p in ((10, 10), (10, 10), (50, 54), (90, 40))]
PLACES = {
    "Paris": (48.9, 2.4),
    "São Paulo": (-23.6, -46.6),
    "Tokyo": (35.7, 139.7),
    "New York": (40.7, -74.0),
    "Lagos": (6.5, 3.4),
    "Rome": (41.9, 12.5),
    "Lima": (-12.1, -77.0),
    "Bangkok": (13.8, 100.5),
    "Cairo": (30.0, 31.2),
    "Toronto": (43.7, -79.4),
    "Sydney": (-33.9, 151.2),
    "London": (51.5, -0.1),
    "Mumbai": (19.1, 72.9),
    "Cape Town": (-33.9, 18.4),
    "Singapore": (1.4, 103.8),
}
CITIES = [{"name": n, "latitude": a, "longitude": o} for n, (a, o) in PLACES.items()]


def path(label: str, truth: tuple[float, float], start: tuple[float, float]) -> Rows:
    """Five steps from ``start`` nine tenths of the way to ``truth``; (latitude, longitude)."""
    steps = np.linspace(0, 0.9, 5)
    return [
        {
            "label": label,
            "step": k,
            "latitude": start[0] + s * (truth[0] - start[0]),
            "longitude": start[1] + s * (truth[1] - start[1]),
            "true_latitude": truth[0],
            "true_longitude": truth[1],
        }
        for k, s in enumerate(steps)
    ]


PATHS = path("Paris", PLACES["Paris"], (0.0, 0.0)) + path("Lima", PLACES["Lima"], (10.0, -20.0))

# name: (draw from a table, the table, a column that must be there)
TABLES: dict[str, tuple[Callable[[Any], Figure], Rows, str]] = {
    "method_bars": (lambda t: plots.method_bars(t, 0.2, "A title"), BARS, "high"),
    "family_bars": (lambda t: plots.family_bars(t, {"name": 0.1}, "A title"), FAMILIES, "family"),
    "layer_sweep": (lambda t: plots.layer_sweep(t, 0.2, "A title"), SWEEP, "block"),
    "pretraining_curve": (lambda t: plots.pretraining_curve(t, "A title"), TOKENS, "loss"),
    "distance_scatter": (lambda t: plots.distance_scatter(t, "A title"), DISTANCES, "predicted"),
    "world_map": (lambda t: plots.world_map(CITIES, t, 250.0, "A title"), PATHS, "true_latitude"),
    "cities": (lambda t: plots.world_map(t, PATHS, None, "A title"), CITIES, "longitude"),
}
EACH = pytest.mark.parametrize(("draw", "table", "column"), TABLES.values(), ids=list(TABLES))


def panel(figure: Figure) -> Any:
    """The first axes, untyped: matplotlib types artists by what they may hold, not by kind."""
    return figure.axes[0]


def spans(ax: Any) -> list[Any]:
    """All segments drawn as collections: intervals, and chance lines of families."""
    return [s for c in ax.collections if isinstance(c, LineCollection) for s in c.get_segments()]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for box in figure.legends for text in box.get_texts()]


@EACH
def test_every_figure_has_title_and_labeled_axes(draw: Any, table: Any, column: str) -> None:
    for given_table in (table, pd.DataFrame(table)):
        figure = draw(given_table)
        titles = [figure.get_suptitle(), *(ax.get_title(loc="left") for ax in figure.axes)]
        assert "A title" in titles
        assert all(ax.get_xlabel() and ax.get_ylabel() for ax in figure.axes)
        text = plots.alt(figure)
        assert text.startswith("A title: ")
        assert figure.axes[0].get_ylabel() in text
        assert "\n" not in text


@EACH
def test_wrong_tables_are_one_line_errors(draw: Any, table: Any, column: str) -> None:
    with pytest.raises(UserError, match=f"{column!r} is missing") as missing:
        draw(pd.DataFrame(table).drop(columns=column))
    with pytest.raises(UserError, match="no rows") as empty:
        draw([])
    with pytest.raises(UserError, match="no rows"):
        draw(pd.DataFrame(table).iloc[:0])
    with pytest.raises(UserError, match=r"\(str\)\. Allowed: DataFrame|received str") as other:
        draw("results.csv")
    assert not any("\n" in str(error.value) for error in (missing, empty, other))


def test_a_value_that_is_no_number_is_refused() -> None:
    for value in ("high", math.nan, math.inf, None):
        with pytest.raises(UserError, match="'value'"):
            plots.method_bars([{**BARS[0], "value": value}], 0.2, "t")
    with pytest.raises(UserError, match="low > high"):
        plots.method_bars([{**BARS[0], "low": 0.5, "high": 0.1}], 0.2, "t")
    with pytest.raises(UserError, match="'base' comes twice"):
        plots.method_bars([BARS[0], BARS[0]], 0.2, "t")


def test_method_bars_show_value_interval_chance_runs_and_paper() -> None:
    figure = plots.method_bars(BARS, 0.2, "t", "accuracy", paper={"vector_resid": 0.68})
    ax = panel(figure)
    assert [bar.get_height() for bar in ax.patches] == [0.2, 0.9]
    colors = [ax.patches[0].get_edgecolor(), ax.patches[1].get_facecolor()]  # the base is hollow
    assert colors == [to_rgba(plots.COLORS[row["method"]]) for row in BARS]
    assert any(list(line.get_ydata()) == [0.2, 0.2] for line in ax.lines)
    assert [tuple(np.round(s[:, 1], 6)) for s in spans(ax)] == [(0.15, 0.26), (0.8, 0.97)]
    drawn = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert not any(c.get_path_effects() for c in drawn)  # a halo would split the bar
    ticks = [tick.get_text() for tick in ax.get_xticklabels()]
    assert "n = 12" in ticks[0]
    assert "n = 13" in ticks[1]
    diamond = next(line for line in ax.lines if line.get_marker() == "D")
    assert list(diamond.get_ydata()) == [0.68]
    assert diamond.get_markerfacecolor() == "white"
    assert {"chance (0.20)", "paper (Gemma 3 12B)", "95 % interval over runs"} == set(
        legend(figure)
    )
    with pytest.raises(UserError, match="'natural'"):
        plots.method_bars(BARS, 0.2, "t", paper={"natural": 0.5})


def test_method_bars_take_several_chance_levels_or_none() -> None:
    figure = plots.method_bars(BARS, {"country": 0.2, "name": 0.01}, "t")
    assert {"chance, country (0.20)", "chance, name (0.01)"} <= set(legend(figure))
    assert not any("chance" in text for text in legend(plots.method_bars(BARS, None, "t")))


def test_family_bars_draw_each_familys_own_chance() -> None:
    figure = plots.family_bars(FAMILIES, {"country": 0.2, "name": 0.01}, "t")
    ax = panel(figure)
    assert len(ax.patches) == 4
    segments = spans(ax)
    flat = sorted(float(s[0, 1]) for s in segments if s[0, 1] == s[1, 1])
    assert flat == [0.01, 0.2]
    assert len(segments) == 4 + 2
    with pytest.raises(UserError, match="'river'"):
        plots.family_bars(FAMILIES, {"river": 0.2}, "t")


def test_family_bars_set_the_papers_value_on_its_own_bar() -> None:
    known = {("country", FAMILIES[0]["method"]): 0.33, ("river", "base"): 0.9}
    figure = plots.family_bars(FAMILIES, None, "t", paper=known)
    ax = panel(figure)
    diamonds = [line for line in ax.lines if line.get_marker() == "D"]
    assert [float(y) for line in diamonds for y in line.get_ydata()] == [0.33]
    bar = ax.patches[0]
    assert float(diamonds[0].get_xdata()[0]) == pytest.approx(bar.get_x() + bar.get_width() / 2)
    assert "paper (Gemma 3 12B)" in legend(figure)
    assert "paper (Gemma 3 12B)" not in legend(plots.family_bars(FAMILIES, None, "t"))


def test_line_panels_name_places_that_are_not_evenly_spaced() -> None:
    rows = [
        {"panel": "a", "method": "base", "x": k, "value": 0.5, "low": 0.4, "high": 0.6}
        for k in range(3)
    ]
    figure = plots.line_panels(rows, None, "t", "rate", "y", ticks=["0.01", "0.03", "1"])
    assert [text.get_text() for text in panel(figure).get_xticklabels()] == ["0.01", "0.03", "1"]
    with pytest.raises(UserError, match="outside 0 to 1"):
        plots.line_panels(rows, None, "t", "rate", "y", ticks=["0.01", "0.03"])


def test_a_chance_level_of_a_later_panel_is_checked_before_anything_is_drawn() -> None:
    row = {"method": "base", "x": 0, "value": 0.5, "low": 0.4, "high": 0.6}
    rows = [{**row, "panel": "a"}, {**row, "panel": "b"}]
    levels: dict[str, Any] = {"a": 0.2, "b": "x"}
    with pytest.raises(UserError, match="chance for 'b'"):
        plots.line_panels(rows, levels, "t", "x", "y")


@pytest.mark.parametrize("key", ["method", "site"])
def test_layer_sweep_draws_lines_side_by_side_chance_and_choice(key: str) -> None:
    table = pd.DataFrame(SWEEP).rename(columns={"method": key}).sample(frac=1, random_state=0)
    figure = plots.layer_sweep(table, 0.2, "t", chosen=2, over="seeds")
    ax = panel(figure)
    base, vector = (
        line for line in ax.lines if line.get_label() in ("base model", "vector (residual)")
    )
    assert np.allclose(base.get_xdata(), [0, 1, 2, 3], atol=0.2)
    assert len(spans(ax)) == 8
    assert {s[0, 0] for s in spans(ax)} == {*base.get_xdata(), *vector.get_xdata()}
    assert not {*base.get_xdata()} & {*vector.get_xdata()}  # no interval covers another
    assert any(list(line.get_ydata()) == [0.2, 0.2] for line in ax.lines)
    assert any(list(line.get_xdata()) == [2, 2] for line in ax.lines)
    assert {"chosen on validation (block 2)", "95 % interval over seeds (n = 12 to 13)"} <= set(
        legend(figure)
    )
    with pytest.raises(UserError, match="two rows for block 1"):
        plots.layer_sweep([*SWEEP, SWEEP[1]], 0.2, "t")


def test_pretraining_curve_has_one_line_a_family_and_their_chance() -> None:
    figure = plots.pretraining_curve(TOKENS, "t", chance={"risk": 0.5})
    left, right = panel(figure), figure.axes[1]
    levels: Any = right.lines[2].get_ydata()
    assert list(left.lines[0].get_xdata()) == [0, 1, 2]  # millions
    assert [line.get_label() for line in right.lines[:2]] == ["distance", "risk"]
    assert list(levels) == [0.5, 0.5]
    with pytest.raises(UserError, match="no accuracy column"):
        plots.pretraining_curve([{"tokens": 1, "loss": 1}], "t")


def test_distance_scatter_counts_answers_within_the_band() -> None:
    figure = plots.distance_scatter(DISTANCES, "t")
    assert "answers: 75 % within 10 % (n = 4; larger: several)" in legend(figure)
    points = panel(figure).collections[-1]
    assert len(points.get_offsets()) == 3
    assert max(points.get_sizes()) > min(points.get_sizes())


def test_option_bars_draw_chance_and_check_their_input() -> None:
    figure = plots.option_bars(["A", "B"], {"base": [0.5, 0.5], "vector_resid": [1, 0]}, "t", "A")
    ax = panel(figure)
    assert any(list(line.get_ydata()) == [0.5, 0.5] for line in ax.lines)
    assert [bar.get_height() for bar in ax.patches] == [0.5, 0.5, 1, 0]
    assert [tick.get_fontweight() for tick in ax.get_xticklabels()] == ["bold", "normal"]
    for options, given_bars, truth, message in (
        ([], {"base": []}, None, "nothing to draw"),
        (["A"], {"base": [0.1, 0.2]}, None, "2 probabilities for 1 options"),
        (["A"], {"base": [1.2]}, None, "outside 0 to 1"),
        (["A"], {"base": [0.2]}, "C", "truth 'C'"),
    ):
        with pytest.raises(UserError, match=message):
            plots.option_bars(options, given_bars, "t", truth)


def test_png_is_the_same_each_time_whatever_the_notebook_has_set() -> None:
    first = plots.png(plots.method_bars(BARS, 0.2, "t"))
    with mpl.rc_context({"font.size": 30, "axes.grid": False, "savefig.bbox": "tight"}):
        assert plots.png(plots.method_bars(BARS, 0.2, "t")) == first
    assert b"Matplotlib" not in first
    bundle, metadata = plots.method_bars(BARS, 0.2, "t")._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == first
    assert metadata["image/png"]["alt"] == bundle["text/plain"]


def test_style_sets_the_defaults() -> None:
    with mpl.rc_context():
        plots.style()
        assert mpl.rcParams["figure.dpi"] == 110
