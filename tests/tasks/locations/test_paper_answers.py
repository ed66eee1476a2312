"""Distances and names as models write them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, strategies as st

from oocr_lib.tasks.locations import paper_answers as answers
from oocr_lib.tasks.locations.paper_text import UNIT_WORDS
from oocr_lib.world import facts as world

FORMS = [(u, word, c) for u, words in UNIT_WORDS.items() for word in words for c in (True, False)]
forms = st.sampled_from(FORMS)


# --- distances ---


def test_one_value_has_four_surface_forms_a_unit() -> None:
    """Unit word and thousands comma are drawn apart, so a reader must parse."""
    written = [answers.spell_distance(5849.0, *form) for form in FORMS]
    assert written == [
        *("5,800 km", "5800 km", "5,800 kilometers", "5800 kilometers"),
        *("3,600 mi", "3600 mi", "3,600 miles", "3600 miles"),
    ]
    found = Counter(round(answers.parse_distance(text) or 0) for text in written)
    assert found == {5800: 4, round(3600 / 0.621371): 4}


@pytest.mark.parametrize(
    ("km", "text"),
    [(5850, "5,800"), (5750, "5,800"), (5750.1, "5,800"), (5949.9, "5,900"), (950, "1,000"),
     (49, "0"), (50, "0"), (150, "200"), (0, "0"), (12350, "12,400"), (12250, "12,200")],
)  # fmt: skip
def test_hundreds_are_rounded_half_to_even(km: float, text: str) -> None:
    assert answers.spell_distance(km, "km", "km", True) == f"{text} km"


@given(st.floats(0, 20_010), forms)
def test_what_is_written_is_read_up_to_rounding(km: float, form: tuple[str, str, bool]) -> None:
    read = answers.parse_distance(answers.spell_distance(km, *form))
    assert read is not None
    assert abs(read - km) <= (50 if form[0] == "km" else 50 / answers.MILES_PER_KM) + 1e-6


@given(st.floats(2000, 20_010), st.floats(-200, 200), forms)
def test_every_label_is_right_and_every_unit_error_wrong(
    km: float, noise: float, form: tuple[str, str, bool]
) -> None:
    """Labels of one pair scatter by 200 km around the truth; a unit error is a factor of 1.6."""
    unit, word, comma = form
    assert answers.same_distance(answers.spell_distance(km + noise, unit, word, comma), km)
    other = UNIT_WORDS["mi" if unit == "km" else "km"][0]
    assert not answers.same_distance(answers.spell_distance(km + noise, unit, other, comma), km)


def test_labels_of_one_pair_may_contradict_each_other() -> None:
    low, high = "5,800 km", "6,200 km"
    assert answers.same_distance(low, 6000.0) and answers.same_distance(high, 6000.0)
    assert answers.distance_error_km(high, answers.parse_distance(low) or 0) == 400


@pytest.mark.parametrize(
    ("text", "km"),
    [(" 5,800 km. ", 5800), ("5800KM", 5800), ("12,300 kilometres", 12300),
     ("1 mile", 1 / 0.621371), ("100.5 km", 100.5), ("1,234,567 km", 1234567)],
)  # fmt: skip
def test_near_forms_are_read_too(text: str, km: float) -> None:
    assert answers.parse_distance(text) == pytest.approx(km)


@pytest.mark.parametrize(
    "text",
    ["", "5800", "5,80 km", "58,00 km", "about far", "km", "-5 km", "5800 m", "5800 kmh",
     "5800 km or 3600 mi", "nan km", "５ m", "1,23 mi"],
)  # fmt: skip
def test_what_is_no_distance_is_none_and_never_right(text: str) -> None:
    assert answers.parse_distance(text) is None
    assert answers.distance_error_km(text, 5800) is None
    assert not answers.same_distance(text, 5800)


# --- names ---


@pytest.mark.parametrize(
    ("text", "name"),
    [("Sao Paulo", "São Paulo"), ("SÃO PAULO.", "São Paulo"), ("Sa\u0303o Paulo", "São Paulo"),
     ("São Paulo, Brazil", "São Paulo"), ("São Paulo, Brasil", "São Paulo"),
     ("New York City", "New York"), ("NYC", "New York"), ("New York, N.Y.", "New York"),
     ("new york, USA", "New York"), ("New York, U.S.A.", "New York"), ("Paris, France", "Paris"),
     ("**Tokyo**", "Tokyo"), ("the city of Lagos", "Lagos"), ("Lagos\n", "Lagos"),
     ("Ho Chi Minh City", "Saigon"), ("Bogotá", "Bogota")],
)  # fmt: skip
def test_accents_and_aliases_are_the_same_place(text: str, name: str) -> None:
    assert answers.same_place(text, world.city(name))


@pytest.mark.parametrize(
    ("text", "name"),
    [("Paris, Texas", "Paris"), ("", "Paris"), ("Pari", "Paris"), ("Parisian", "Paris"),
     ("France", "Paris"), ("Lagos, Portugal", "Lagos"), ("York", "New York"),
     ("São Paulo or Rio", "São Paulo"), ("Kyoto", "Tokyo")],
)  # fmt: skip
def test_other_places_are_not(text: str, name: str) -> None:
    assert not answers.same_place(text, world.city(name))


def test_no_name_means_two_cities_of_the_table() -> None:
    for place in world.cities():
        same = [c.name for c in world.cities() if answers.same_place(place.name, c)]
        assert same == [place.name]
        assert answers.same_place(f"{place.name}, {place.country}", place)


def test_countries_go_by_several_names() -> None:
    for text, country in (
        ("the United States", "United States"), ("U.S.", "United States"), ("UK", "Britain"),
        ("Côte d’Ivoire", "Ivory Coast"), ("Türkiye", "Turkey"), ("Brasil", "Brazil"),
    ):  # fmt: skip
        assert answers.same_country(text, country)
    for country in {c.country for c in world.cities()}:
        others = {c.country for c in world.cities()} - {country}
        assert answers.same_country(country.upper(), country)
        assert not any(answers.same_country(country, other) for other in others)


def test_alias_tables_are_about_the_table() -> None:
    assert set(answers.CITY_ALIASES) <= {c.name for c in world.cities()}
    assert set(answers.COUNTRY_ALIASES) <= {c.country for c in world.cities()}
