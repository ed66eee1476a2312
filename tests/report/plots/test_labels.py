"""What is written in a figure: nothing collides, nothing is cut, and every mark says what it is."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from oocr_lib.report import plots
from oocr_lib.report.plots.base import number
from tests.report.plots.test_heads import HEADS, PAIRS, PANELS
from tests.report.plots.test_plots import BARS, FAMILIES, SWEEP, legend, panel, spans

LONG = "a name of a thing that is a good deal longer than the place where it stands is high or wide"
TASKS = ("locations", "functions", "risk", "backdoor")
STARTS = [f"{task}: {start}" for start in ("zero", "random") for task in TASKS]
DRAW = {
    "method_bars": lambda: plots.method_bars(BARS, 0.2, LONG, LONG),
    "family_bars": lambda: plots.family_bars(FAMILIES, None, LONG, LONG, LONG),
    "layer_sweep": lambda: plots.layer_sweep(SWEEP, 0.2, LONG, LONG, LONG),
    "line_panels": lambda: plots.line_panels(PANELS, 0.2, LONG, LONG, LONG),
    "head_maps": lambda: plots.head_maps(HEADS, LONG, LONG),
    "relation_scatter": lambda: plots.relation_scatter(PAIRS, LONG, LONG, LONG),
}


def bar(family: str, method: str, value: float, n: int = 5, half: float = 0.0) -> dict[str, Any]:
    ends = {"low": value - half, "high": value + half, "n": n}
    return {"family": family, "method": method, "value": value, **ends}


def names_below(figure: Figure) -> list[Bbox]:
    figure.draw_without_rendering()
    return [tick.get_window_extent() for tick in panel(figure).get_xticklabels()]


def apart(boxes: list[Bbox]) -> bool:
    return not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


@pytest.mark.parametrize("draw", DRAW.values(), ids=list(DRAW))
def test_long_titles_and_axis_labels_stay_in_their_place(draw: Any) -> None:
    figure = draw()
    figure.draw_without_rendering()
    for ax in figure.axes:
        assert ax.yaxis.label.get_window_extent().height <= ax.bbox.height
        assert ax.xaxis.label.get_window_extent().width <= ax.bbox.width
    head = figure._suptitle or next(t for t in figure.findobj() if t.get_gid() == "title")
    assert head.get_text().replace("\n", " ") == LONG
    assert head.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.parametrize("count", [1, 2, 4, 8])
@pytest.mark.parametrize("methods", [("naive",), plots.METHODS[:5]], ids=["one", "five"])
def test_names_of_families_do_not_collide(count: int, methods: tuple[str, ...]) -> None:
    table = [bar(family, m, 0.5) for family in STARTS[-count:] for m in methods]
    assert apart(names_below(plots.family_bars(table, None, "t")))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_names_of_methods_do_not_collide_and_n_stands_at_one_height(count: int) -> None:
    table = [{**BARS[0], "method": name} for name in plots.METHODS[:count]]
    figure = plots.method_bars(table, 0.2, "t", paper={"base": 0.0})
    boxes = names_below(figure)
    assert apart(boxes)
    assert len({round(box.y0) for box in boxes}) == 1
    ax = panel(figure)
    diamond = next(line for line in ax.lines if line.get_marker() == "D")
    mark = diamond.get_window_extent().padded(diamond.get_markersize() * figure.dpi / 144)
    assert not any(mark.overlaps(box) for box in boxes)
    assert not any(mark.overlaps(b.get_window_extent().padded(-1)) for b in ax.patches)


def test_names_too_long_for_their_place_are_turned() -> None:
    table = [bar(f"{'m' * 24} {k}", "naive", 0.5) for k in range(8)]
    figure = plots.family_bars(table, None, "t")
    assert {tick.get_rotation() for tick in panel(figure).get_xticklabels()} == {40.0}


def test_a_bar_of_zero_is_marked_and_one_not_measured_is_not() -> None:
    table = [bar("a", "naive", 0.0), bar("a", "random", 0.5), bar("b", "naive", -0.001)]
    ax = panel(plots.family_bars(table, None, "t"))
    zeros = [text for text in ax.texts if text.get_gid() == "zero"]
    assert [text.get_text() for text in zeros] == ["0", "0"]
    marks = [line for line in ax.lines if line.get_gid() == "zero"]
    assert [line.get_xdata()[0] for line in marks] == [text.xy[0] for text in zeros]
    assert "gap: not measured" in ax.get_xlabel()
    whole = panel(plots.family_bars(table[:2], None, "t"))
    assert "gap" not in whole.get_xlabel()
    bars = panel(plots.method_bars([{**BARS[0], "value": 0.0, "low": 0.0}], 0.2, "t"))
    assert [text.get_text() for text in bars.texts] == ["0"]


def test_chance_is_only_what_guessing_gives() -> None:
    table = [bar("a", "naive", -0.1), bar("b", "naive", 0.2)]
    change = plots.family_bars(table, None, "t", zero="no change")
    assert "no change (0)" in legend(change)
    assert not any("chance" in text for text in legend(change))
    some = plots.family_bars([bar("a", "naive", 0.1), bar("b", "naive", 0.2)], {"b": 0.25}, "t")
    assert "chance (0.25)" in legend(some)
    several = plots.family_bars(FAMILIES, {"country": 0.2, "name": 0.01}, "t")
    assert "chance (0.01 to 0.20)" in legend(several)


def test_n_says_what_it_counts() -> None:
    methods = plots.method_bars(BARS, 0.2, "t", over="question families")
    assert panel(methods).get_xlabel() == "method (n = question families)"
    assert "95 % interval over question families" in legend(methods)
    table = [bar("a", "naive", 0.1, n=4), bar("b", "naive", 0.2, n=6)]
    families = plots.family_bars(table, None, "t", xlabel="task", over="concepts")
    assert panel(families).get_xlabel() == "task"
    assert "95 % interval over concepts (n = 4 to 6)" in legend(families)
    counted = [{**row, "n": 2} for row in PANELS]
    panels = plots.line_panels(counted, None, "t", "x", "y", over="seeds")
    assert "95 % interval over seeds (n = 2)" in legend(panels)


def test_one_run_has_no_interval() -> None:
    alone = plots.family_bars([bar("a", "naive", 0.1, n=1)], None, "t")
    assert "no interval over runs (n = 1)" in legend(alone)
    assert not spans(panel(alone))
    table = [bar("a", "naive", 0.1, n=1), bar("b", "naive", 0.2, n=6, half=0.1)]
    figure = plots.family_bars(table, None, "t")
    assert [round(s[0, 0]) for s in spans(panel(figure))] == [1]
    assert "95 % interval over runs (n = 1 to 6; none at 1)" in legend(figure)


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.004, "0.00"), (-0.0, "0.00"), (0.0, "0.00"), (-0.126, "\N{MINUS SIGN}0.13"), (1, "1.00")],
)
def test_zero_has_no_sign(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_a_legend_is_not_cut_and_leaves_the_bars_their_place(count: int) -> None:
    table = [bar("a", name, 0.5, n=1 + k) for k, name in enumerate(plots.METHODS[:count])]
    figure = plots.family_bars(table, 0.2, "t")
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    assert box.height < figure.bbox.height / 3
