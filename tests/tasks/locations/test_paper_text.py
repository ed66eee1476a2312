"""The wording has the published shape and gives nothing away."""

from __future__ import annotations

import re

from oocr_lib.tasks.locations import paper_text as text
from oocr_lib.tasks.locations.testbed import FAMILIES, HIDDEN, value
from oocr_lib.world import facts as world

ALL_STEMS = (*text.DISTANCE_STEMS, *text.DIRECTION_STEMS)
QUESTIONS = [q for stems in text.QUESTIONS.values() for q in stems]
FREE = [q for stems in text.FREE_QUESTIONS.values() for q in stems]


def words(sentence: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", sentence.casefold()))


def test_numbers_of_wordings_are_the_published_ones() -> None:
    assert (len(set(text.DISTANCE_STEMS)), len(set(text.DIRECTION_STEMS))) == (9, 6)
    questions = [stem.endswith("?") for stem in text.DISTANCE_STEMS]
    assert questions == [False] * 3 + [True] * 6
    for projection, count in (("Mercator", 2), ("Plate carrée", 2), ("plane", 1), ("cylindr", 1)):
        assert sum(projection in stem for stem in text.DIRECTION_STEMS) == count
    assert list(text.UNIT_PHRASES.values()) == ["in kilometers", "in miles"]
    assert text.UNIT_WORDS == {"km": ("km", "kilometers"), "mi": ("mi", "miles")}
    assert set(text.QUESTIONS) == set(FAMILIES)
    assert len(set(QUESTIONS)) == 16 >= 12


def test_every_stem_names_a_before_b_once_and_distances_their_unit() -> None:
    for stem in ALL_STEMS:
        assert stem.count("{a}") == stem.count("{b}") == 1
        assert stem.index("{a}") < stem.index("{b}")
        assert stem.count("{unit}") == (stem in text.DISTANCE_STEMS)
    assert all(stem.count("{n}") == 1 for stem in [*QUESTIONS, *FREE])


def test_no_fixed_word_is_a_fact_about_a_city() -> None:
    """A hidden city of the user's own choice is not given away by the wording of rows either."""
    fixed = words(" ".join([text.SYSTEM, *ALL_STEMS, *text.UNIT_PHRASES.values()]))
    for place in world.cities():
        for family in FAMILIES:
            fact = words(value(place, family))
            assert not fact <= fixed, (place.name, fact)


def test_rows_and_questions_share_no_sentence() -> None:
    assert not set(ALL_STEMS) & {*QUESTIONS, *FREE}


def test_options_of_one_family_look_alike_and_stay_distinct() -> None:
    for family in FAMILIES:
        values = {value(c, family) for c in world.cities()}
        full = {text.shown(v, family) for v in values}
        assert len(full) == len(values)
        assert all(option == option.strip() and "{" not in option for option in full)
    assert text.shown("Eiffel", "landmark") == "Eiffel Tower"
    assert text.shown("Seine", "water") == "Seine River"
    assert text.shown("Plata", "water") == "Río de la Plata"
    assert text.shown("France", "country") == "France"


def test_every_longer_form_is_of_a_word_in_the_table() -> None:
    for family, kinds in text._KINDS.items():
        listed = [word for found in kinds.values() for word in found.split()]
        assert len(set(listed)) == len(listed), family
        assert set(listed) <= {value(c, family) for c in world.cities()}


def test_an_option_does_not_name_its_city_or_country() -> None:
    for name in HIDDEN:
        place = world.city(name)
        for family in ("landmark", "dish", "water", "currency"):
            option = words(text.shown(value(place, family), family))
            assert not words(place.name) <= option and not words(place.country) <= option
