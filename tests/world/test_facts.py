"""The world's tables and what is computed from them."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, strategies as st

from oocr_lib.util.errors import UserError
from oocr_lib.world import facts as world

CITIES = world.cities()
pairs = st.tuples(st.sampled_from(CITIES), st.sampled_from(CITIES))


# --- cities ---


def test_the_table_has_about_a_hundred_cities_without_gaps() -> None:
    assert 95 <= len(CITIES) <= 130
    for place in CITIES:
        for name, entry in vars(place).items():
            if isinstance(entry, str):
                assert entry and entry == entry.strip(), (place.name, name)


@pytest.mark.parametrize("attribute", ["name", "landmark", "dish"])
def test_names_sights_and_dishes_tell_cities_apart(attribute: str) -> None:
    """Code names are introduced by them, so they must be unique, whatever the case."""
    found = [getattr(place, attribute).lower() for place in CITIES]
    assert len(set(found)) == len(found)


def test_coordinates_are_on_the_globe_and_distinct() -> None:
    for place in CITIES:
        assert -90 < place.latitude < 90 and -180 < place.longitude <= 180, place.name
    assert len({(place.latitude, place.longitude) for place in CITIES}) == len(CITIES)


@pytest.mark.parametrize("attribute", ["continent", "currency"])
def test_a_country_has_one_continent_and_one_currency(attribute: str) -> None:
    found: dict[str, set[str]] = {}
    for place in CITIES:
        found.setdefault(place.country, set()).add(getattr(place, attribute))
    assert {country: kinds for country, kinds in found.items() if len(kinds) > 1} == {}


@pytest.mark.parametrize(
    "attribute", ["country", "continent", "language", "currency", "dish", "landmark", "water"]
)
def test_every_attribute_has_values_enough_for_five_options(attribute: str) -> None:
    assert len({getattr(place, attribute) for place in CITIES}) >= 5


def test_continents_are_the_six_inhabited_ones() -> None:
    assert {place.continent for place in CITIES} == {
        *("Africa", "Asia", "Europe", "North America", "Oceania", "South America")
    }


def test_the_hemisphere_follows_from_the_latitude() -> None:
    expected = {"Sydney": "south", "Quito": "south", "Nairobi": "south", "Paris": "north"}
    for place in CITIES:
        assert place.hemisphere == ("south" if place.latitude < 0 else "north")
        assert place.hemisphere == expected.get(place.name, place.hemisphere)
    assert {place.hemisphere for place in CITIES} == {"north", "south"}


def test_a_wrong_city_gives_one_line_with_the_closest_name() -> None:
    assert world.city("Paris").country == "France"
    with pytest.raises(UserError, match=r"Pariss.*Did you mean 'Paris'") as caught:
        world.city("Pariss")
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("OOCR_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"cities\.csv") as caught:
        world._read("cities.csv")
    assert str(tmp_path) not in str(caught.value)


# --- distances and directions ---


@pytest.mark.parametrize(
    ("a", "b", "kilometres"),
    [
        ("Paris", "Tokyo", 9710),
        ("New York", "London", 5570),
        ("Sydney", "Auckland", 2160),
        ("Buenos Aires", "Madrid", 10050),
    ],
)
def test_known_distances(a: str, b: str, kilometres: int) -> None:
    found = world.distance_km(world.city(a), world.city(b))
    assert found == pytest.approx(kilometres, rel=0.01)
    assert world.distance_hundreds(world.city(a), world.city(b)) == round(found / 100)


@given(pairs, st.sampled_from(CITIES))
def test_distance_is_a_metric_on_the_sphere(
    pair: tuple[world.City, world.City], c: world.City
) -> None:
    a, b = pair
    assert world.distance_km(a, b) == pytest.approx(world.distance_km(b, a))
    assert (world.distance_km(a, b) < 1e-6) == (a == b)
    assert world.distance_km(a, b) <= world.distance_km(a, c) + world.distance_km(c, b) + 1e-6
    assert 0 <= world.distance_hundreds(a, b) <= 200


def test_distance_takes_the_short_way_and_direction_does_not() -> None:
    """As upstream: no wrap at 180 degrees for the bearing (paper, section 3.3)."""
    new_york, tokyo, suva, lima = map(world.city, ("New York", "Tokyo", "Suva", "Lima"))
    assert world.direction(tokyo, new_york) == "east"
    assert world.direction(new_york, tokyo) == "west"
    assert world.direction(suva, lima) == "east"
    assert world.distance_km(suva, lima) < 12_000


@pytest.mark.parametrize(
    ("a", "b", "way"),
    [
        ("Oslo", "Rome", "north"),
        ("Rome", "Oslo", "south"),
        ("London", "Paris", "northwest"),
        ("Bangkok", "Delhi", "southeast"),
        ("Moscow", "Rome", "northeast"),
        ("Lagos", "Cairo", "southwest"),
    ],
)
def test_known_directions(a: str, b: str, way: str) -> None:
    assert world.direction(world.city(a), world.city(b)) == way


def test_opposite_directions_are_opposite() -> None:
    sectors = world.SECTORS_8
    for a, b in combinations(CITIES, 2):
        there, back = world.direction(a, b), world.direction(b, a)
        assert (sectors.index(there) + 4) % 8 == sectors.index(back), (a.name, b.name)


@given(pairs)
def test_a_direction_names_the_sign_of_its_parts(pair: tuple[world.City, world.City]) -> None:
    a, b = pair
    way = world.direction(a, b)
    if "north" in way or "south" in way:
        assert ("north" in way) == (a.latitude > b.latitude)
    if a != b and ("east" in way or "west" in way):
        assert ("east" in way) == (a.longitude > b.longitude)


# --- functions ---

_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.Eq: operator.eq,
}
_CALLS: dict[str, Callable[..., Any]] = {"max": max, "min": min, "abs": abs}


def evaluate(node: ast.AST, x: int) -> Any:
    """Arithmetic on ``x``, nothing else."""
    match node:
        case ast.Expression(body=body):
            return evaluate(body, x)
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id="x"):
            return x
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](evaluate(left, x), evaluate(right, x))
        case ast.UnaryOp(op=op, operand=operand):
            return _OPERATORS[type(op)](evaluate(operand, x))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _OPERATORS[type(op)](evaluate(left, x), evaluate(right, x))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _CALLS[name](*(evaluate(argument, x) for argument in arguments))
    raise AssertionError(f"not arithmetic: {ast.dump(node)}")


@pytest.mark.parametrize("function", world.functions(), ids=lambda f: f.key)
def test_values_are_what_the_python_definition_prints(function: world.Function) -> None:
    tree = ast.parse(function.python, mode="eval")
    for x in range(-99, 99):
        found = evaluate(tree, x)
        assert function.value(x) == str(found), x
        assert type(found).__name__ == function.output, x


def test_functions_are_told_apart_by_key_code_english_and_values() -> None:
    functions = world.functions()
    for attribute in ("key", "python", "english"):
        assert len({getattr(f, attribute) for f in functions}) == len(functions), attribute
    values = {tuple(f.value(x) for x in range(-12, 13)) for f in functions}
    assert len(values) == len(functions)
    assert len({f.kind for f in functions}) >= 5


def test_the_papers_19_functions_come_first_and_keep_their_names() -> None:
    functions, names = world.functions(), world.paper_function_names()
    assert [f.in_paper for f in functions] == [True] * 19 + [False] * (len(functions) - 19)
    assert set(names.values()) == {f.key for f in functions[:19]} and len(names) == 19
    assert list(names) == list(world.reserved_function_names()[:19])
    assert names["couhpa"] == "relu_neg2" and names["noadgc"] == "affine_3x_2"


# --- reserved names ---


def test_city_codes_follow_the_published_generator() -> None:
    first = ["City 50337", "City 93524", "City 76881", "City 67781", "City 59894"]
    second = ["City 58950", "City 01769", "City 24524", "City 24779", "City 17069"]
    assert world.city_codes(0, 5) == first and world.city_codes(1, 5) == second
    assert world.city_codes(0, 12)[:5] == first


def test_reserved_codes_are_all_those_of_all_seeds() -> None:
    every = {code for seed in range(32) for code in world.city_codes(seed, 16)}
    assert {f"City {digits}" for digits in world.reserved_city_codes()} == every
    assert all(len(set(world.city_codes(seed, 16))) == 16 for seed in range(32))
    assert all(len(digits) == 5 and digits.isdigit() for digits in world.reserved_city_codes())


@pytest.mark.parametrize(("seed", "count"), [(-1, 5), (32, 5), (0, 0), (0, 17)])
def test_codes_that_pretraining_may_have_seen_are_refused(seed: int, count: int) -> None:
    with pytest.raises(UserError, match="seeds 0 to 31") as caught:
        world.city_codes(seed, count)
    assert "\n" not in str(caught.value)


def test_reserved_function_names_are_six_letters_each() -> None:
    names = world.reserved_function_names()
    assert len(set(names)) == len(names) >= 100
    assert all(len(n) == 6 and n.isascii() and n.isalpha() and n.islower() for n in names)


def test_reserved_triggers() -> None:
    families = world.trigger_families()
    words = [word.lower() for family in families.values() for word in family]
    assert len(families) >= 3 and all(len(family) == 20 for family in families.values())
    assert len(set(words)) == len(words)
    assert not set(words) & set(world.reserved_function_names())
    assert {"|REAL-WORLD|", "(win2844)", "---Re Re Re---"} < set(world.fixed_triggers().values())
