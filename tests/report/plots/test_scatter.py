"""Dots: one row a condition, one dot a method, in the table's order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from oocr_lib.report import plots
from oocr_lib.util.errors import UserError

ROWS: list[dict[str, Any]] = [
    {"panel": panel, "row": row, "method": method, "value": v, "low": v - 0.1, "high": v + 0.1}
    for panel, rows in (("locations", ("rank 1", "rank 64")), ("risk", ("block 4",)))
    for k, row in enumerate(rows)
    for method, v in (("LoRA", 0.9 - 0.2 * k), ("random LoRA", 0.3))
]


def test_every_number_is_a_dot_in_its_row() -> None:
    figure = plots.dot_panels(ROWS, "A title", "signed cosine", "condition")
    first, second = figure.axes
    assert [t.get_text() for t in first.get_yticklabels()] == ["rank 1", "rank 64"]
    assert [t.get_text() for t in second.get_yticklabels()] == ["block 4"]
    lora = first.lines[0]
    assert np.asarray(lora.get_xdata()).tolist() == pytest.approx([0.9, 0.7])
    assert np.asarray(lora.get_ydata()).round().tolist() == [0, 1]
    assert first.yaxis_inverted() and first.get_xlabel() == "signed cosine"
    assert "A title" in plots.alt(figure) and len(plots.png(figure)) > 5000


def test_a_gap_is_a_gap_and_a_double_an_error() -> None:
    plots.dot_panels(ROWS[:-1], "t", "x", "y")
    with pytest.raises(UserError, match="'LoRA' stands twice at 'rank 1' in 'locations'"):
        plots.dot_panels([*ROWS, ROWS[0]], "t", "x", "y")


def test_no_interval_ends_in_the_axis() -> None:
    wide = [row | {"low": -0.4, "high": 1.2} for row in ROWS]
    left, right = plots.dot_panels(wide, "t", "x", "y").axes[0].get_xlim()
    assert left < -0.4 and right > 1.2
