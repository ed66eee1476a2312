"""Every figure of the notebooks. Tables in, a matplotlib ``Figure`` out; nothing is shown or saved.

Start reading in ``meanings.py`` (which color stands for what) and ``base.py`` (style, legend, the
figure class), then one file per shape:
``bars.py``, ``lines.py``, ``scatter.py``, ``heads.py``, ``world.py``. Tables are
pandas data frames or plain lists of dictionaries; a missing column is a one-line ``UserError``.

>>> figure = option_bars(["Paris", "Lyon"], {"base": [0.5, 0.5]}, "Which city?")
>>> alt(figure)
'Which city?: probability by candidate answer; shows Paris, Lyon, chance (0.50), base model.'
"""

from __future__ import annotations

from oocr_lib.report.plots.bars import family_bars, method_bars, option_bars
from oocr_lib.report.plots.base import Chart, alt, png, style
from oocr_lib.report.plots.geography import coastlines
from oocr_lib.report.plots.heads import head_maps
from oocr_lib.report.plots.lines import layer_sweep, line_panels, pretraining_curve
from oocr_lib.report.plots.meanings import COLORS, LABELS, MARKERS, METHODS
from oocr_lib.report.plots.scatter import distance_scatter, dot_panels, relation_scatter
from oocr_lib.report.plots.world import world_map
from oocr_lib.world.facts import great_circle_km as distance_km

__all__ = [
    "COLORS",
    "LABELS",
    "MARKERS",
    "METHODS",
    "Chart",
    "alt",
    "coastlines",
    "distance_km",
    "distance_scatter",
    "dot_panels",
    "family_bars",
    "head_maps",
    "layer_sweep",
    "line_panels",
    "method_bars",
    "option_bars",
    "png",
    "pretraining_curve",
    "relation_scatter",
    "style",
    "world_map",
]
