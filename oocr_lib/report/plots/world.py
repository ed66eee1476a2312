"""World maps: where an answer, a probe or a vector points, step by step, and where the truth is."""

from __future__ import annotations

import functools
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import NDArray

from oocr_lib.report.plots.base import INK, Chart, canvas, legend_below, styled, titled
from oocr_lib.report.plots.geography import coastlines, short_way, wrap_longitude
from oocr_lib.report.plots.labels import place_labels
from oocr_lib.report.plots.meanings import CYCLE
from oocr_lib.report.plots.tables import Table, finite, frame
from oocr_lib.util.errors import UserError
from oocr_lib.world.facts import great_circle_km as distance_km

Extent = tuple[float, float, float, float]

WORLD: Final[Extent] = (-180.0, 180.0, -60.0, 84.0)
MOST: Final = len(CYCLE)  # labels on one map; more cannot be told apart
_SEA, _LAND, _COAST, _DOT = "#EEF4F9", "#E9E4D6", "#B3AC9A", "#8A8A8A"


class _Path(NamedTuple):
    """One label's path: longitudes and latitudes (p,) in degrees, continuous; end and truth."""

    longitudes: NDArray[np.float64]
    latitudes: NDArray[np.float64]
    truth: tuple[float, float]  # longitude, latitude

    @property
    def end(self) -> tuple[float, float]:
        return wrap_longitude(float(self.longitudes[-1])), float(self.latitudes[-1])

    @property
    def error_km(self) -> float:
        return distance_km(self.end[1], self.end[0], self.truth[1], self.truth[0])


@styled
def world_map(
    cities: Table,
    trajectories: Table,
    probe_error_km: float | None,
    title: str,
    extent: Extent = WORLD,
) -> Chart:
    """Draw paths of predicted places over a coarse world, with the true cities as stars.

    Longitudes are wrapped and a path takes the short way round; latitudes are cut at ±90. The
    distance in a label is the great circle from the path's end to the truth.

    Args:
        cities: columns name, latitude, longitude (degrees): the known cities, small gray dots.
        trajectories: columns label, step, latitude, longitude, true_latitude, true_longitude
            (degrees); one path per label, one to ten labels; the label names the star.
        probe_error_km: the probe's error on held-out cities in km, or None without a probe.
        extent: west, east, south, north (degrees), to zoom in on a continent.

    Raises:
        UserError: a wrong table, coordinates that are not on the globe, more than ten labels, a
            label with two truths, or a wrong extent.
    """
    places = frame(cities, ["latitude", "longitude"], ["name"], "world_map: cities")
    _check_globe(places, "latitude", "longitude", "world_map: cities")
    paths = _paths(trajectories)
    west, east, south, north = _check_extent(extent)
    width = 8.6
    height = min(9.0, 1.75 + 0.9 * width * (north - south) / (east - west))
    figure = canvas(height, width)
    ax = figure.add_subplot(aspect="equal")
    _draw_land(ax)
    ax.plot(places["longitude"], places["latitude"], ls="none", marker=".", ms=4, c=_DOT, zorder=2)
    for path, color in zip(paths.values(), CYCLE, strict=False):
        _draw_path(ax, path, color, star=15 if len(paths) <= 5 else 12)
    ax.set_xlim(west, east)
    ax.set_ylim(south, north)
    _degree_ticks(ax)
    titled(ax, title, "longitude (degrees)", "latitude (degrees)")
    legend_below(figure, _key(), columns=3)
    if probe_error_km is not None:
        error = finite(probe_error_km, "world_map: probe_error_km")
        caption = f"The probe's own error on held-out cities: {error:,.0f} km."
        figure.legends[0].set_title(caption, prop=FontProperties(size=10.5))
    texts = [f"{name}: {path.error_km:,.0f} km" for name, path in paths.items()]
    ends = [path.end for path in paths.values()]
    place_labels(ax, texts, [path.truth for path in paths.values()], CYCLE, ends, INK)
    return figure


def _paths(table: Table) -> dict[str, _Path]:
    what = "world_map: trajectories"
    numbers = ["step", "latitude", "longitude", "true_latitude", "true_longitude"]
    data = frame(table, numbers, ["label"], what)
    _check_globe(data, "true_latitude", "true_longitude", what)
    names = list(dict.fromkeys(data["label"]))
    if len(names) > MOST:
        raise UserError(f"{what}: {len(names)} labels. At most {MOST} can be read; draw two maps.")
    paths = {}
    for name in names:
        rows = data[data["label"] == name].sort_values("step")
        truths = rows[["true_longitude", "true_latitude"]].drop_duplicates()
        if len(truths) > 1:
            raise UserError(f"{what}: label {name!r} has {len(truths)} truths. Give it one.")
        longitudes = short_way(rows["longitude"].to_numpy(dtype=float))
        latitudes = np.clip(rows["latitude"].to_numpy(dtype=float), -90.0, 90.0)
        truth = (float(truths.iloc[0, 0]), float(truths.iloc[0, 1]))
        paths[name] = _Path(longitudes, latitudes, truth)
    return paths


def _check_globe(data: pd.DataFrame, latitude: str, longitude: str, what: str) -> None:
    for column, limit in ((latitude, 90.0), (longitude, 180.0)):
        bad = data.loc[data[column].abs() > limit, column]
        if len(bad):
            raise UserError(
                f"{what}: {column} {bad.iloc[0]:g} is not on the globe. "
                f"Allowed: -{limit:g} to {limit:g} degrees."
            )


def _check_extent(extent: Extent) -> Extent:
    west, east, south, north = (finite(edge, "world_map: extent") for edge in extent)
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise UserError(
            f"world_map: extent {tuple(extent)}. Pass (west, east, south, north) in degrees, "
            "west < east and south < north."
        )
    return west, east, south, north


def _draw_land(ax: Axes) -> None:
    ax.set_facecolor(_SEA)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(True)
    for name, outline in coastlines().items():
        color = _SEA if name.startswith("lake_") else _LAND
        ax.fill(outline[:, 0], outline[:, 1], fc=color, ec=_COAST, lw=0.6, zorder=1)


def _draw_path(ax: Axes, path: _Path, color: str, star: float) -> None:
    points = np.column_stack([path.longitudes, path.latitudes])
    steps = len(points) - 1
    leg = short_way(np.array([path.end[0], path.truth[0]]))
    for turn in (-360.0, 0.0, 360.0):  # a path over the antimeridian comes back on the other side
        shifted = points + np.array([turn, 0.0])
        if steps:
            segments = np.stack([shifted[:-1], shifted[1:]], axis=1)
            ax.add_collection(_fading(segments, color), autolim=False)
        ax.plot(leg + turn, [path.end[1], path.truth[1]], color=color, ls="--", lw=1.3, zorder=4)
    if steps:
        start = wrap_longitude(float(path.longitudes[0]))
        ax.plot(start, path.latitudes[0], "o", ms=7, mfc="white", mec=color, mew=1.8, zorder=5)
    ax.plot(*path.end, "o", ms=8, mfc=color, mec="white", mew=1.0, zorder=6)
    ax.plot(*path.truth, "*", ms=star, mfc=color, mec=INK, mew=0.9, zorder=7)


def _fading(segments: NDArray[np.float64], color: str) -> LineCollection:
    """Return (p, 2, 2) segments that grow from thin and pale to thick and full with the step."""
    share = np.linspace(0.0, 1.0, len(segments)) if len(segments) > 1 else np.ones(1)
    full = np.array(to_rgb(color))
    colors = [tuple(full + (1 - full) * 0.55 * (1 - s)) for s in share]
    return LineCollection(list(segments), colors=colors, linewidths=1.0 + 2.2 * share, zorder=4)


def _degree_ticks(ax: Axes) -> None:
    for axis, span, letters in (
        (ax.xaxis, np.ptp(ax.get_xlim()), "WE"),
        (ax.yaxis, np.ptp(ax.get_ylim()), "SN"),
    ):
        gap = next((g for g in (1, 2, 5, 10, 20, 30) if span / g <= 8), 60 if span > 240 else 30)
        axis.set_major_locator(MultipleLocator(gap))
        axis.set_major_formatter(FuncFormatter(functools.partial(_degrees, letters)))


def _degrees(letters: str, value: float, _: int | None = None) -> str:
    return f"{abs(value):g}°" + (f" {letters[int(value > 0)]}" if value else "")


def _key() -> list[Any]:
    ring: dict[str, Any] = {"ls": "none", "mec": INK}
    return [
        Line2D([], [], marker="o", ms=7, mfc="white", mew=1.8, label="first step", **ring),
        Line2D([], [], color=INK, lw=2.4, label="path (thicker: later)"),
        Line2D([], [], marker="o", ms=8, mfc=INK, label="last step", **ring),
        Line2D([], [], marker="*", ms=14, mfc=INK, label="true city", **ring),
        Line2D([], [], color=INK, lw=1.3, ls="--", label="last step to truth (km)"),
        Line2D([], [], marker=".", ms=7, ls="none", c=_DOT, label="known city"),
    ]
