"""A number for every attention head: a map of blocks by heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm

from oocr_lib.report.plots.base import INK, Chart, canvas, headed, number, styled, titled
from oocr_lib.report.plots.tables import Table, frame
from oocr_lib.util.errors import UserError

#: Diverging, colour-blind safe, white in the middle.
_COLORS = "PuOr_r"
_WRITTEN = 80  # cells; a larger map has no room for numbers


@styled
def head_maps(table: Table, title: str, label: str | Mapping[str, str]) -> Chart:
    """Draw one panel for each ``what``; panels of one quantity share a scale that is white at 0.

    Args:
        table: columns what, block, head, value; one row per head, drawn in the order of ``what``,
            panels of one quantity together.
        label: what the number is, with its unit; stands at the color bar. If panels show
            different quantities, ``what`` -> label: each quantity has its own scale and bar.

    Raises:
        UserError: a wrong table, a head twice, or a ``what`` without a label.
    """
    data = frame(table, ["block", "head", "value"], ["what"], "head_maps")
    duplicates = data[data.duplicated(["what", "block", "head"])]
    if len(duplicates):
        row = duplicates.iloc[0]
        raise UserError(
            f"head_maps: {row['what']!r} has two rows for block {row['block']:g}, head "
            f"{row['head']:g}. Average its runs before drawing."
        )
    figure = canvas(height=2.6 + 0.38 * data["block"].nunique())
    groups = _by_label(list(dict.fromkeys(data["what"])), label)
    names = [name for group in groups.values() for name in group]
    panels = dict(zip(names, figure.subplots(1, len(names), squeeze=False)[0], strict=True))
    for quantity, group in groups.items():
        part = data[data["what"].isin(group)]
        largest = max(float(part["value"].abs().max()), 1e-9)
        norm = TwoSlopeNorm(0.0, -largest, largest)
        for name in group:
            rows = part[part["what"] == name]
            wide = rows.pivot(index="block", columns="head", values="value")
            image = panels[name].imshow(wide.to_numpy(), cmap=_COLORS, norm=norm, aspect="auto")
            _label(panels[name], wide, largest)
            titled(panels[name], name, "head", "block", size=12)
        axes = [panels[name] for name in group]
        figure.colorbar(
            image, ax=axes, label=quantity, location="bottom", shrink=0.9, aspect=14 * len(axes)
        )
    headed(figure, title)
    return figure


def _by_label(names: Sequence[str], label: str | Mapping[str, str]) -> dict[str, list[str]]:
    """Label of a quantity -> its panels, in their order."""
    groups: dict[str, list[str]] = {}
    for name in names:
        if not isinstance(label, str) and name not in label:
            raise UserError(
                f"head_maps: no label for {name!r}. Labels given: {', '.join(label) or 'none'}. "
                "Say for every panel what its numbers are."
            )
        groups.setdefault(label if isinstance(label, str) else label[name], []).append(name)
    return groups


def _label(ax: Axes, wide: pd.DataFrame, largest: float) -> None:
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
            dark = abs(value) > 0.65 * largest
            ax.text(j, i, number(value), color="white" if dark else INK, **style)
