"""Maps of heads, scatters of one number against another, and panels of lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from oocr_lib.report import plots
from oocr_lib.util.errors import UserError

HEADS = [
    {"what": what, "block": block, "head": head, "value": (block - 2) * (head + 1) / 10}
    for what in ("pattern", "values")
    for block in (1, 2, 3)
    for head in range(4)
]
PAIRS = [
    {"x": float(k), "y": 1 - k / 10, "method": name}
    for k in range(20)
    for name in ("naive", "vector_resid")
]


def test_head_maps_put_every_number_in_its_cell_white_at_zero() -> None:
    figure = plots.head_maps(pd.DataFrame(HEADS).sample(frac=1, random_state=0), "A title", "share")
    assert figure.get_suptitle() == "A title"
    panels: list[Any] = [ax for ax in figure.axes if ax.images]
    assert sorted(ax.get_title(loc="left") for ax in panels) == ["pattern", "values"]
    for ax in panels:
        grid = np.asarray(ax.images[0].get_array())
        assert grid.shape == (3, 4) and grid[2, 3] == pytest.approx(0.4)
        assert [t.get_text() for t in ax.get_yticklabels()] == ["1", "2", "3"]
        middle = ax.images[0].cmap(ax.images[0].norm(0.0))
        assert min(middle[:3]) > 0.95
        assert {t.get_text() for t in ax.texts} >= {"0.40", "\N{MINUS SIGN}0.10"}
        assert ax.get_xlabel() == "head" and ax.get_ylabel() == "block"
    assert [ax.get_xlabel() for ax in figure.axes].count("share") == 1
    assert plots.alt(figure).startswith("A title: ")


def test_each_quantity_of_head_maps_has_its_own_scale_and_bar() -> None:
    small = [
        {**row, "value": float(row["value"]) / 100} for row in HEADS if row["what"] == "values"
    ]
    table = [*HEADS, *({**row, "what": "gain"} for row in small)]
    labels = {"pattern": "share", "gain": "attention", "values": "share"}
    figure = plots.head_maps(table, "t", labels)
    most = {ax.get_title(loc="left"): ax.images[0].norm.vmax for ax in figure.axes if ax.images}
    assert most == {"pattern": 0.4, "values": 0.4, "gain": pytest.approx(0.004)}
    bars = [ax.get_xlabel() for ax in figure.axes if not ax.get_title(loc="left")]
    assert bars == ["share", "attention"]
    texts = {text.get_text() for ax in figure.axes for text in ax.texts}
    assert "0.00" in texts and not any(t.endswith("0.00") for t in texts - {"0.00"})
    with pytest.raises(UserError, match="no label for 'values'"):
        plots.head_maps(HEADS, "t", {"pattern": "share"})


def test_head_maps_refuse_doubles_and_wrong_tables() -> None:
    with pytest.raises(UserError, match="'pattern' has two rows for block 1, head 0"):
        plots.head_maps([*HEADS, HEADS[0]], "t", "share")
    with pytest.raises(UserError, match="'value' is missing"):
        plots.head_maps(pd.DataFrame(HEADS).drop(columns="value"), "t", "share")


def test_a_scatter_counts_its_points_and_draws_medians_and_level() -> None:
    figure = plots.relation_scatter(PAIRS, "A title", "distance (km)", "cosine", level=0.0)
    ax: Any = figure.axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("distance (km)", "cosine")
    assert any(list(line.get_ydata()) == [0.0, 0.0] for line in ax.lines)
    assert len(ax.collections) == 2 and len(ax.collections[0].get_offsets()) == 20
    texts = [text.get_text() for box in figure.legends for text in box.get_texts()]
    assert texts[0] == "cosine 0" and len(texts) == 3
    assert all("n = 20" in text for text in texts[1:])
    medians = ax.lines[1]
    assert len(medians.get_xdata()) == 10 and medians.get_ydata()[0] == pytest.approx(0.95)
    with pytest.raises(UserError, match="'y' is missing"):
        plots.relation_scatter([{"x": 1.0}], "t", "x", "y")


PANELS = [
    {"panel": panel, "method": method, "x": x, "value": 0.5, "low": 0.4, "high": 0.6}
    for panel in ("risk", "locations", "functions")
    for method in ("naive", "vector_resid")
    for x in (-2.0, 0.0, 3.0)
]


def test_panels_have_their_own_chance_and_one_legend() -> None:
    figure = plots.line_panels(PANELS, {"risk": 0.5, "locations": 0.2}, "A title", "times", "acc")
    axes: list[Any] = [ax for ax in figure.axes if ax.get_title(loc="left")]
    assert [ax.get_title(loc="left") for ax in axes] == ["risk", "locations", "functions"]
    level = [[line for line in ax.lines if "chance" in line.get_label()] for ax in axes]
    assert [len(found) for found in level] == [1, 1, 0]
    assert list(level[1][0].get_ydata()) == [0.2, 0.2]
    texts = [text.get_text() for box in figure.legends for text in box.get_texts()]
    assert texts[2:] == ["chance (0.20 to 0.50)", "95 % interval over runs"] and len(texts) == 4
    for ax in axes:
        assert np.allclose(ax.lines[0].get_xdata(), [-2.0, 0.0, 3.0], atol=0.3)
        ticks = [tick.label1 for tick in ax.xaxis.get_major_ticks()]
        assert [t.get_text() for t in ticks] == ["\N{MINUS SIGN}2", "0", "3"]
        assert all(tick.get_visible() for tick in ticks)  # also above another panel
    assert "A title" in plots.alt(figure)
    with pytest.raises(UserError, match="two rows for -2 in 'risk'"):
        plots.line_panels([*PANELS, PANELS[0]], None, "t", "x", "y")
    with pytest.raises(UserError, match="'panel' is missing"):
        plots.line_panels(pd.DataFrame(PANELS).drop(columns="panel"), None, "t", "x", "y")
