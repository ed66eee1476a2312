"""A number for every attention head: a map of blocks by heads."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm

from oocr_lib.errors import UserError
from oocr_lib.plots.base import INK, Chart, canvas, styled, titled
from oocr_lib.plots.tables import Table, frame

#: Diverging, colour-blind safe, white in the middle.
_COLORS = "PuOr_r"
_WRITTEN = 80  # cells; a larger map has no room for numbers


@styled
def head_maps(table: Table, title: str, label: str) -> Chart:
    """Draw one panel a ``what``, all on one scale that is white at 0.

    Args:
        table: columns what, block, head, value; one row a head, drawn in the order of ``what``.
        label: what the number is, with its unit; stands at the color bar.

    Raises:
        UserError: a wrong table, or a head twice.
    """
    data = frame(table, ["block", "head", "value"], ["what"], "head_maps")
    double = data[data.duplicated(["what", "block", "head"])]
    if len(double):
        row = double.iloc[0]
        raise UserError(
            f"head_maps: {row['what']!r} has two rows for block {row['block']:g}, head "
            f"{row['head']:g}. Average its runs before drawing."
        )
    names = list(dict.fromkeys(data["what"]))
    figure = canvas(height=1.8 + 0.38 * data["block"].nunique())
    panels: list[Axes] = list(figure.subplots(1, len(names), squeeze=False)[0])
    most = max(float(data["value"].abs().max()), 1e-9)
    norm = TwoSlopeNorm(0.0, -most, most)
    for ax, name in zip(panels, names, strict=True):
        wide = data[data["what"] == name].pivot(index="block", columns="head", values="value")
        image = ax.imshow(wide.to_numpy(), cmap=_COLORS, norm=norm, aspect="auto")
        _label(ax, wide, most)
        titled(ax, name, "head", "block", size=12)
    figure.colorbar(image, ax=panels, label=label, shrink=0.9)
    figure.suptitle(title, fontsize=14, x=0.01, ha="left")
    return figure


def _label(ax: Axes, wide: pd.DataFrame, most: float) -> None:
    """Ticks with the numbers of blocks and heads, and each cell's value where there is room."""
    ax.grid(False)
    step = 1 + len(wide) // 16
    ax.set_xticks(range(wide.shape[1]), [f"{head:g}" for head in wide.columns])
    ax.set_yticks(range(0, len(wide), step), [f"{block:g}" for block in wide.index[::step]])
    if wide.size > _WRITTEN:
        return
    for i, row in enumerate(wide.to_numpy()):
        for j, value in enumerate(row):
            style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9}
            dark = abs(value) > 0.65 * most
            ax.text(j, i, f"{value:.2f}", color="white" if dark else INK, **style)
