"""Distances on the ellipsoid against published values, directions against the published rule."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from oocr_lib.tasks.locations.geodesic import DIRECTIONS, direction, geodesic_km, true_km
from oocr_lib.util.errors import UserError
from oocr_lib.world import facts as world

CITIES = world.cities()
cities = st.sampled_from(CITIES)
ORIGIN = replace(CITIES[0], latitude=0.0, longitude=0.0)


def degrees(whole: int, minutes: int, seconds: float) -> float:
    return whole + minutes / 60 + seconds / 3600


# --- distances ---


@pytest.mark.parametrize(
    ("points", "km", "within"),
    [
        # The geodetic test line Flinders Peak to Buninyong.
        (
            (
                -degrees(37, 57, 3.7203), degrees(144, 25, 29.5244),
                -degrees(37, 39, 10.1561), degrees(143, 55, 35.3839),
            ),
            54.972271, 1e-6,
        ),
        # New York to London airports and Wellington to Salamanca, worked examples for geodesics.
        ((40.6, -73.8, 51.6, -0.5), 5551.759400, 1e-6),
        ((-41.32, 174.81, 40.96, -5.50), 19959.679267, 1e-6),
        # A quarter of a meridian, a degree of the equator (also across 180 degrees), pole to pole.
        ((0, 0, 90, 0), 10001.965729, 1e-6),
        ((0, 0, 0, 1), 111.319491, 1e-6),
        ((0, 179.5, 0, -179.5), 111.319491, 1e-6),
        ((90, 0, -90, 0), 2 * 10001.965729, 2e-6),
        ((12, 34, 12, 34), 0.0, 0.0),
    ],
)  # fmt: skip
def test_known_lengths(points: tuple[float, ...], km: float, within: float) -> None:
    assert geodesic_km(*points) == pytest.approx(km, abs=within)


@given(cities, cities)
def test_it_is_symmetric_and_close_to_the_sphere(a: world.City, b: world.City) -> None:
    km = true_km(a, b)
    assert km == pytest.approx(true_km(b, a), abs=1e-6)
    assert km == pytest.approx(world.distance_km(a, b), rel=0.006)
    assert (km == 0) == (a == b)


def test_it_settles_for_every_pair_of_the_table() -> None:
    farthest = max(true_km(a, b) for a in CITIES for b in CITIES)
    assert 19_000 < farthest < 20_004


def test_opposite_points_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"\(0, 0\) and \(0.5, 179.7\) are nearly opposite"):
        geodesic_km(0, 0, 0.5, 179.7)


# --- directions ---


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("Tokyo", "New York", "East"),  # the short way is West, over the Pacific
        ("New York", "Tokyo", "West"),
        ("Auckland", "Lima", "East"),  # across 180 degrees
        ("Reykjavik", "Moscow", "West"),  # a great circle would start to the north-west
        ("Oslo", "Lagos", "North"),
        ("Cape Town", "Cairo", "South"),
        ("Helsinki", "London", "East"),  # with cos(lat) the latitude would nearly catch up
    ],
)
def test_directions_are_read_off_the_map(a: str, b: str, expected: str) -> None:
    """No wrap at 180 degrees and no cos(lat): a great-circle bearing would be wrong here."""
    assert direction(world.city(a), world.city(b)) == expected


@pytest.mark.parametrize("side", [1, 10.7, 0.1, 33.3])
def test_a_bearing_between_two_sectors_goes_to_the_even_one(side: float) -> None:
    for north in (side, -side):
        for east in (side, -side):
            place = replace(ORIGIN, latitude=north, longitude=east)
            assert direction(place, ORIGIN) == ("North" if north > 0 else "South")


def test_inexact_differences_of_decimal_degrees_stay_ties() -> None:
    a = replace(ORIGIN, latitude=48.9, longitude=13.4)
    b = replace(ORIGIN, latitude=38.0, longitude=2.5)
    assert a.latitude - b.latitude != a.longitude - b.longitude, "else this tests nothing"
    assert (direction(a, b), direction(b, a)) == ("North", "South")


@given(cities, cities)
def test_the_direction_back_is_the_opposite_one(a: world.City, b: world.City) -> None:
    if a != b:
        there, back = DIRECTIONS.index(direction(a, b)), DIRECTIONS.index(direction(b, a))
        assert (there - back) % 4 == 2
