"""Distance and direction between cities, as in the published Locations rows (paper, 3.3).

Distances are geodesics on the WGS-84 ellipsoid. Directions are not geographic: they are read off a
map with longitude to the right and latitude up, in raw degrees, with no wrap at its edges.
"""

from __future__ import annotations

import math
from functools import cache

from oocr_lib.util.errors import UserError
from oocr_lib.world.facts import City

SEMI_MAJOR_M = 6378137.0
FLATTENING = 1 / 298.257223563
DIRECTIONS = ("North", "East", "South", "West")
_STEPS = 200


def geodesic_km(lat_a: float, lon_a: float, lat_b: float, lon_b: float) -> float:
    r"""Length of the shortest line on WGS-84 in km; arguments in degrees.

    Vincenty's inverse formula (1975): both points are mapped to an auxiliary sphere by their
    reduced latitude U, tan U = (1 - f) tan(latitude); the longitude difference on that sphere is
    iterated until it changes by less than 1e-12 rad, and the arc \sigma is converted to a length by
    Vincenty's series in u^2 = cos^2(alpha) (a^2 - b^2) / b^2. Accurate to less than a millimetre.

    Raises:
        UserError: the points are so nearly opposite that the iteration does not converge.
    """
    f, minor = FLATTENING, SEMI_MAJOR_M * (1 - FLATTENING)
    u1, u2 = (math.atan((1 - f) * math.tan(math.radians(lat))) for lat in (lat_a, lat_b))
    s1, c1, s2, c2 = math.sin(u1), math.cos(u1), math.sin(u2), math.cos(u2)
    difference = math.radians((lon_b - lon_a + 180) % 360 - 180)
    on_sphere = difference
    for _ in range(_STEPS):
        sin_l, cos_l = math.sin(on_sphere), math.cos(on_sphere)
        sin_sigma = math.hypot(c2 * sin_l, c1 * s2 - s1 * c2 * cos_l)
        if sin_sigma == 0:
            return 0.0
        cos_sigma = s1 * s2 + c1 * c2 * cos_l
        sigma = math.atan2(sin_sigma, cos_sigma)
        sin_alpha = c1 * c2 * sin_l / sin_sigma
        cos2_alpha = 1 - sin_alpha**2
        # On the equator cos2_alpha is 0 and the term it divides vanishes.
        mid = cos_sigma - 2 * s1 * s2 / cos2_alpha if cos2_alpha > 1e-15 else 0.0
        c = f / 16 * cos2_alpha * (4 + f * (4 - 3 * cos2_alpha))
        inner = mid + c * cos_sigma * (2 * mid**2 - 1)
        previous = on_sphere
        on_sphere = difference + (1 - c) * f * sin_alpha * (sigma + c * sin_sigma * inner)
        if abs(on_sphere) <= math.pi and abs(on_sphere - previous) < 1e-12:
            return _arc_m(cos2_alpha, minor, sigma, sin_sigma, cos_sigma, mid) / 1000
    raise UserError(
        f"The points ({lat_a}, {lon_a}) and ({lat_b}, {lon_b}) are nearly opposite. Allowed: "
        "points more than about a degree from each other's antipode."
    )


def _arc_m(
    cos2_alpha: float, minor: float, sigma: float, sin_sigma: float, cos_sigma: float, mid: float
) -> float:
    """Length of the arc sigma on the ellipsoid, in metres: Vincenty's series."""
    u2 = cos2_alpha * (SEMI_MAJOR_M**2 - minor**2) / minor**2
    a = 1 + u2 / 16384 * (4096 + u2 * (-768 + u2 * (320 - 175 * u2)))
    b = u2 / 1024 * (256 + u2 * (-128 + u2 * (74 - 47 * u2)))
    third = b / 6 * mid * (4 * sin_sigma**2 - 3) * (4 * mid**2 - 3)
    correction = b * sin_sigma * (mid + b / 4 * (cos_sigma * (2 * mid**2 - 1) - third))
    return minor * a * (sigma - correction)


@cache
def true_km(a: City, b: City) -> float:
    """Geodesic distance between two cities in km."""
    return geodesic_km(a.latitude, a.longitude, b.latitude, b.longitude)


def direction(a: City, b: City) -> str:
    """Direction of ``a`` relative to ``b``: the nearest of North, East, South and West.

    The bearing is the arctangent of the longitude difference over the latitude difference in raw
    degrees: no wrap at 180 degrees and no shrinking of longitude, so Tokyo is East of New York. A
    bearing exactly between two sectors counts as North or South.
    """
    east, north = a.longitude - b.longitude, a.latitude - b.latitude
    # Rounded first: differences of decimal degrees are not exact, and a tie must stay a tie.
    bearing = round(math.degrees(math.atan2(east, north)) % 360, 9)
    return DIRECTIONS[round(bearing / 90) % 4]
