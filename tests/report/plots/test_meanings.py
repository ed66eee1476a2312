"""One color for one meaning, told apart in grey and by the color-blind."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from oocr_lib.report import plots
from oocr_lib.report.plots.meanings import CYCLE, MEANINGS, looks
from tests.report.plots.test_plots import BARS, CITIES, PATHS, SWEEP, panel

# Machado, Oliveira & Fernandes (2009), full red and green blindness, on linear RGB.
SIGHT = {
    "all colors": np.eye(3),
    "no red": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "no green": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
}
# What the notebooks draw in one figure.
TOGETHER = {
    "methods": plots.METHODS,
    "parts of a LoRA": (
        "base",
        "lora_one",
        "natural",
        "mean only",
        "keep first",
        "project out first",
    ),
    "lens": ("own words", "another's words"),
    "pretraining": ("city", "code", "function", "function code", "speaker", "trigger"),
    "constancy": (
        *("absolute cosine", "signed cosine"),
        *("energy of one direction", "energy of the mean"),
    ),
    "across": ("same concept, other seed", "other concept, same seed", "both differ"),
    "between": (
        *("naive to learned", "seed to seed"),
        *("seed to seed, random starts", "concept to concept"),
    ),
    "unknown": tuple(f"name {k}" for k in range(8)),
}


#: Controls that vary a method, and share its color: the same vector without a concept to learn, and
#: what shuffled labels keep.
VARIANTS = ("random_answers", "multiset")
OWN = [name for name in plots.METHODS if name not in VARIANTS]


def lab(color: str, sight: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of a color as seen by an eye; a distance of 2 is just visible."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(sight @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ seen / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT.values(), ids=list(SIGHT))
def test_colors_differ_also_for_the_color_blind(sight: np.ndarray) -> None:
    """Those of the methods and all others: no color of a method is used for anything else."""
    own = [plots.COLORS[name] for name in OWN]
    for a, b in itertools.combinations([*own, *CYCLE], 2):
        assert np.linalg.norm(lab(a, sight) - lab(b, sight)) > 15, (a, b)


@pytest.mark.parametrize("names", TOGETHER.values(), ids=list(TOGETHER))
def test_what_stands_in_one_figure_differs_in_grey(names: tuple[str, ...]) -> None:
    for a, b in itertools.combinations(looks(names).values(), 2):
        light = abs(lab(a.color, SIGHT["all colors"])[0] - lab(b.color, SIGHT["all colors"])[0])
        bars = (a.hatch, a.hollow) != (b.hatch, b.hollow) or light > 15
        lines = (a.marker, a.hollow) != (b.marker, b.hollow)
        assert bars and lines, (a.label, b.label)
        assert a.color != b.color or (a.hatch, a.line, a.hollow) != (b.hatch, b.line, b.hollow)


def test_the_table_names_every_method_once() -> None:
    assert set(plots.COLORS) == set(plots.MARKERS) == set(plots.LABELS) == set(plots.METHODS)
    assert len(set(plots.MARKERS.values())) == len(plots.METHODS)
    assert len({plots.COLORS[name] for name in OWN}) == len(OWN)
    assert [plots.COLORS[name] for name in VARIANTS] == [
        plots.COLORS[name] for name in ("vector_resid", "shuffled")
    ]
    drawn_together = {name for names in TOGETHER.values() for name in names}
    assert {name for name in drawn_together if not name.startswith("name ")} <= set(MEANINGS)


def test_other_names_get_colors_of_their_own_and_none_of_a_methods() -> None:
    names = [f"rank {k}" for k in range(10)]
    bars = panel(plots.method_bars([{**BARS[0], "method": name} for name in names], 0.2, "t"))
    colors = [to_hex(bar.get_facecolor()).upper() for bar in bars.patches]
    assert len(set(colors)) == 10
    lines = panel(plots.layer_sweep([{**r, "method": r["method"] + "?"} for r in SWEEP], 0.2, "t"))
    colors += [line.get_color() for line in lines.lines if "?" in str(line.get_label())]
    world: Any = panel(plots.world_map(CITIES, PATHS, None, "t"))
    colors += [line.get_markerfacecolor() for line in world.lines if line.get_marker() == "*"]
    assert len(colors) == 14
    assert not set(colors) & set(plots.COLORS.values())
