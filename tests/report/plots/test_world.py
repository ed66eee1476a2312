"""The world map: coastline table, paths over the antimeridian, labels that do not overlap."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, strategies as st
from matplotlib.figure import Figure
from matplotlib.path import Path as Outline
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from oocr_lib.report import plots
from oocr_lib.report.plots.geography import short_way, wrap_longitude
from oocr_lib.util.errors import UserError
from tests.report.plots.test_plots import CITIES, PATHS, PLACES, legend, panel, path

mpl.use("Agg")

EUROPE = {
    "Berlin": (52.5, 13.4),
    "Madrid": (40.4, -3.7),
    "Amsterdam": (52.4, 4.9),
    "Athens": (38.0, 23.7),
    "Vienna": (48.2, 16.4),
    "Dublin": (53.3, -6.3),
    "Oslo": (59.9, 10.8),
}


def to_coast(place: tuple[float, float]) -> float:
    """Degrees from (longitude, latitude) to the nearest land; 0 on land."""
    best = math.inf
    for name, outline in plots.coastlines().items():
        if name.startswith("lake_"):
            continue
        if Outline(outline).contains_point(place):
            return 0.0
        ends = np.roll(outline, -1, axis=0)
        along = ends - outline
        share = ((place - outline) * along).sum(1) / np.maximum((along**2).sum(1), 1e-9)
        nearest = outline + np.clip(share, 0, 1)[:, None] * along
        best = min(best, float(np.hypot(*(nearest - place).T).min()))
    return best


@pytest.mark.parametrize("name", PLACES)
def test_cities_lie_on_or_at_the_edge_of_land(name: str) -> None:
    latitude, longitude = PLACES[name]
    assert to_coast((longitude, latitude)) < 0.3


@pytest.mark.parametrize(
    "sea", [(-30, 40), (-150, -20), (75, -20), (5, 39), (-90, 25), (0, -20), (2, 56), (87, 14)]
)
def test_seas_are_open_water(sea: tuple[float, float]) -> None:
    assert to_coast(sea) > 0.5


def test_coastline_table_is_coarse_closed_and_on_the_globe() -> None:
    shapes = plots.coastlines()
    assert {"africa", "eurasia", "north_america", "south_america", "australia"} <= set(shapes)
    for outline in shapes.values():
        assert outline.shape[0] >= 3
        assert outline.shape[1] == 2
        assert np.abs(outline[:, 0]).max() <= 180
        assert np.abs(outline[:, 1]).max() <= 90
        assert np.allclose(outline, np.round(outline, 1))


def test_a_missing_or_broken_coastline_table_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OOCR_DATA", str(tmp_path))
    with pytest.raises(UserError, match="OOCR_DATA"):
        plots.world_map(CITIES, PATHS, None, "t")
    broken = tmp_path / "broken.csv"
    broken.write_text("polygon,longitude,latitude\nafrica,1.0,2.0\nafrica,x,2.0\n")
    with pytest.raises(UserError, match="line 3"):
        plots.coastlines(broken)
    broken.write_text("shape,x,y\n")
    with pytest.raises(UserError, match="Needed"):
        plots.coastlines(broken)


def boxes(figure: Figure) -> list[Bbox]:
    figure.draw_without_rendering()
    notes = [t for t in panel(figure).texts if isinstance(t, Annotation)]
    frames: list[Any] = [note.get_bbox_patch() for note in notes]
    return [frame.get_window_extent() for frame in frames]


@pytest.mark.parametrize("count", [1, 3, 7, 10])
def test_labels_stay_inside_and_apart_even_in_a_crowd(count: int) -> None:
    crowd = {**EUROPE, "Auckland": (-36.9, 174.8), "Honolulu": (21.3, -157.9), "Suva": (-18, 178)}
    table = [row for name in list(crowd)[:count] for row in path(name, crowd[name], (0, 0))]
    figure = plots.world_map(CITIES, table, 250, "Ten")
    placed, frame = boxes(figure), figure.axes[0].bbox
    assert len(placed) == count
    for box in placed:
        assert frame.x0 <= box.x0 <= box.x1 <= frame.x1
        assert frame.y0 <= box.y0 <= box.y1 <= frame.y1
    for a, b in itertools.combinations(placed, 2):
        assert not a.overlaps(b)


def test_world_map_shows_start_end_truth_distance_and_the_probes_error() -> None:
    figure = plots.world_map(CITIES, PATHS, 250.0, "t")
    ax = panel(figure)
    stars = [line for line in ax.lines if line.get_marker() == "*"]
    assert [(line.get_ydata()[0], line.get_xdata()[0]) for line in stars] == [
        PLACES["Paris"],
        PLACES["Lima"],
    ]
    rings = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() == "white" for line in rings] == [True, False] * 2
    assert any(line.get_linestyle() == "--" for line in ax.lines)
    paris = plots.distance_km(0.9 * 48.9, 0.9 * 2.4, 48.9, 2.4)
    assert f"Paris: {paris:,.0f} km" in [text.get_text() for text in ax.texts]
    assert "250 km" in figure.legends[0].get_title().get_text()
    assert {"first step", "true city", "known city"} <= set(legend(figure))
    assert "degrees" in ax.get_xlabel()
    assert "Paris" in plots.alt(figure)


def test_a_path_over_the_antimeridian_does_not_cross_the_map() -> None:
    table = path("Honolulu", (21.3, -157.9), (35.0, 140.0))
    for row, longitude in zip(table, (140.0, 160.0, 179.0, -175.0, -160.0), strict=True):
        row["longitude"] = longitude
    ax = panel(plots.world_map(CITIES, table, None, "t"))
    segments = [s for c in ax.collections for s in c.get_segments()]
    assert segments
    assert max(abs(s[1, 0] - s[0, 0]) for s in segments) < 25


def test_one_step_is_a_point_without_a_path() -> None:
    ax = plots.world_map(CITIES, PATHS[:1], None, "t").axes[0]
    assert not ax.collections
    assert len([line for line in ax.lines if line.get_marker() == "o"]) == 1


def test_wrong_maps_are_refused() -> None:
    many = [row for k in range(11) for row in path(f"c{k}", (k, k), (0, 0))]
    off = [{**row, "true_latitude": 95.0} for row in PATHS]
    two = [*PATHS, {**PATHS[0], "true_latitude": 10.0}]
    for table, message in ((many, "11 labels"), (off, "95 is not on the globe"), (two, "2 truths")):
        with pytest.raises(UserError, match=message):
            plots.world_map(CITIES, table, None, "t")
    with pytest.raises(UserError, match="extent"):
        plots.world_map(CITIES, PATHS, None, "t", extent=(20, 10, 0, 5))
    with pytest.raises(UserError, match="probe_error_km"):
        plots.world_map(CITIES, PATHS, math.nan, "t")


@given(st.lists(st.floats(-720, 720), min_size=1, max_size=20))
def test_the_short_way_keeps_places_and_never_jumps(longitudes: list[float]) -> None:
    way = short_way(np.array(longitudes))
    assert -180 <= way[0] < 180
    assert np.all(np.abs(np.diff(way)) <= 180 + 1e-6)
    turns = (way - np.array(longitudes)) / 360
    assert np.allclose(turns, np.round(turns), atol=1e-9)


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180))
def test_distances_are_symmetric_and_at_most_half_the_globe(
    a: float, b: float, c: float, d: float
) -> None:
    assert plots.distance_km(a, b, c, d) == pytest.approx(plots.distance_km(c, d, a, b), abs=1e-3)
    assert 0 <= plots.distance_km(a, b, c, d) <= 20_016
    assert plots.distance_km(a, b, a, wrap_longitude(b + 360)) == pytest.approx(0, abs=1)
