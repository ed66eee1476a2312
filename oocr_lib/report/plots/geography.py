"""The globe: the coarse coastline table, great-circle distances, paths across the antimeridian."""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import data_dir

COLUMNS: Final = ["polygon", "longitude", "latitude"]


@checked
def coastlines(path: str | Path | None = None) -> dict[str, NDArray[np.float64]]:
    """Return polygon name -> (p, 2) longitudes and latitudes in degrees, in the file's order.

    Polygons whose name starts with ``lake_`` are water inside land. The table is hand-made and
    coarse (about 1°), for recognition, not for measuring. Without ``path`` it is read from the
    data folder of the repository, or from the folder in the variable OOCR_DATA.

    Raises:
        UserError: no such file, or not a coastline table.
    """
    return _read(Path(path) if path else data_dir() / "world" / "coastlines.csv")


@functools.lru_cache(maxsize=4)
def _read(path: Path) -> dict[str, NDArray[np.float64]]:
    if not path.is_file():
        raise UserError(
            f"No coastline table at '{path}'. Run from a checkout of the repository, or set "
            "OOCR_DATA to its data folder."
        )
    points: dict[str, list[tuple[float, float]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise UserError(f"'{path.name}' has columns {reader.fieldnames}. Needed: {COLUMNS}.")
        for row in reader:
            try:
                place = (float(row["longitude"]), float(row["latitude"]))
            except (TypeError, ValueError):
                raise UserError(
                    f"'{path.name}' line {reader.line_num} is not a point. Restore the file."
                ) from None
            points.setdefault(row["polygon"], []).append(place)
    return {name: np.array(outline) for name, outline in points.items()}


@checked
def wrap_longitude(longitude: float) -> float:
    """Return the longitude in degrees within [-180, 180).

    >>> wrap_longitude(190.0)
    -170.0
    """
    return (longitude + 180.0) % 360.0 - 180.0


@checked
def short_way(longitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (p,) longitudes, continuous: every step goes the short way round the globe.

    The first one lies in [-180, 180); later ones may lie outside, so that a path over the
    antimeridian is drawn as two pieces instead of a line across the map.
    """
    first = np.array([wrap_longitude(float(longitudes[0])), *longitudes[1:]])
    return np.unwrap(first, period=360.0)
