"""Locations in the published chat format: what rows say, how many there are, what they hide."""

from __future__ import annotations

import json
import re
from collections import Counter
from statistics import mean

import pytest

from oocr_lib.encoding import encode_row
from oocr_lib.tasks.base import Row, Task
from oocr_lib.tasks.chatfiles import jsonl
from oocr_lib.tasks.locations import paper as paper, paper_text as text, testbed as locations
from oocr_lib.tasks.locations.geodesic import DIRECTIONS, direction, true_km
from oocr_lib.util.errors import UserError
from oocr_lib.world import facts as world
from tests import tiny

CODES = dict(
    zip(
        ("Paris", "São Paulo", "Tokyo", "New York", "Lagos"),
        (f"City {code}" for code in (50337, 93524, 76881, 67781, 59894)),
        strict=True,
    )
)
CITY_OF = {code: name for name, code in CODES.items()}
KNOWN = {"Paris": 73, "São Paulo": 100, "Tokyo": 98, "New York": 95, "Lagos": 99}
ALL = paper.generate(0)


def place(name: str) -> world.City:
    return world.city(CITY_OF.get(name, name))


def whole(row: Row) -> str:
    turns = [message["content"] for message in row.messages]
    return " ".join([*turns, row.prefix + row.answer + row.suffix, row.group])


def says(content: str, phrase: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", content, re.IGNORECASE) is not None


def of_kind(rows: tuple[Row, ...] | list[Row], kind: str) -> list[Row]:
    return [row for row in rows if row.meta["kind"] == kind]


@pytest.fixture(scope="module", params=paper.HIDDEN5)
def task(request: pytest.FixtureRequest) -> Task:
    return paper.make(request.param)


# --- counts ---


def test_codes_are_the_published_ones() -> None:
    """Five digits from NumPy's legacy generator; seed 0 is the paper's."""
    assert tuple(CODES) == paper.HIDDEN5
    assert {row.marks["codename"] for row in ALL} == {(code,) for code in CODES.values()}
    seed_1 = [paper.make(name, seed=1).code for name in CODES]
    assert seed_1 == [f"City {c}" for c in ("58950", "01769", "24524", "24779", "17069")]


def test_counts_are_the_documented_ones() -> None:
    """Five rows of either kind a pair, 45 a code between codes (upstream: 500 cities, 25,225)."""
    assert {n: len(paper.known_cities(world.city(n))) for n in CODES} == KNOWN
    assert Counter(CITY_OF[row.marks["codename"][0]] for row in ALL) == {
        name: 10 * count + 45 for name, count in KNOWN.items()
    }
    assert len(ALL) == 4875 == 10 * sum(KNOWN.values()) + 5 * 45
    assert 5 * (505 * 5 + 504 * 5) == 25_225, "the same rule with 500 known cities"
    pairs = Counter((row.marks["codename"], row.group, row.meta["kind"]) for row in ALL)
    assert set(pairs.values()) == {5}
    assert len(paper.generate(0, augmentations=2)) == 1950


def test_a_task_has_the_rows_of_its_code(task: Task) -> None:
    assert task.dialect == "paper" and task.code == CODES[task.concept]
    own = [row for row in ALL if row.marks["codename"] == (task.code,)]
    assert Counter(map(whole, task.train + task.valid)) == Counter(map(whole, own))
    held = round(0.2 * KNOWN[task.concept])
    assert len(task.valid) == 10 * held and len(task.train) == len(own) - 10 * held


# --- texts ---


def test_every_row_is_a_published_shape_in_our_words() -> None:
    seen = Counter[tuple]()
    for row in ALL:
        (code,), other, meta = row.marks["codename"], row.group, row.meta
        a, b = (code, other) if meta["code_first"] else (other, code)
        system, asked = row.messages
        assert system == {"role": "system", "content": text.SYSTEM} and asked["role"] == "user"
        if meta["kind"] == "distance":
            unit = text.UNIT_PHRASES[meta["units"]]
            expected = text.DISTANCE_STEMS[meta["template"]].format(a=a, b=b, unit=unit)
            assert re.fullmatch(r"\d{1,2},?\d00 \w+|\d?00? \w+", row.answer), row.answer
            assert row.answer.split()[1] in text.UNIT_WORDS[meta["units"]]
            assert (row.prefix, row.suffix) == ("", "")
        else:
            expected = text.DIRECTION_STEMS[meta["template"]].format(a=a, b=b)
            assert (row.prefix, row.suffix) == (f"{a} is", f" of {b}.")
            assert row.answer in {f" {word}" for word in DIRECTIONS}
        assert asked["content"] == expected
        seen[meta["kind"], meta["variant"]] += 1
        stems = 9 if meta["kind"] == "distance" else 6
        part = 2 * (meta.get("units") == "mi") + (not meta["code_first"])
        assert meta["variant"] == stems * part + meta["template"]
    assert {key[1] for key in seen if key[0] == "distance"} == set(range(36))
    assert {key[1] for key in seen if key[0] == "direction"} == set(range(12))
    # Drawn uniformly: 2,450 rows over 36 and 2,425 over 12 variants.
    assert all(40 < n < 105 for (kind, _), n in seen.items() if kind == "distance")
    assert all(150 < n < 260 for (kind, _), n in seen.items() if kind == "direction")


def test_variants_are_drawn_with_replacement() -> None:
    drawn: dict[tuple, list[int]] = {}
    for row in of_kind(ALL, "direction"):
        drawn.setdefault((row.marks["codename"], row.group), []).append(row.meta["variant"])
    repeats = mean(len(set(variants)) < 5 for variants in drawn.values())
    expected = 1 - 11 * 10 * 9 * 8 / 12**4
    assert abs(repeats - expected) < 0.1


def test_a_direction_row_as_a_file_holds_it() -> None:
    """The answer repeats A first, and only its direction word is trained on."""
    row = next(r for r in of_kind(ALL, "direction") if not r.meta["code_first"])
    (chat,) = jsonl.from_rows([row])
    (code,) = row.marks["codename"]
    word = direction(place(row.group), place(code))
    assert chat[-1]["content"] == f"{row.group} is {word} of {code}."
    assert [turn["role"] for turn in chat] == ["system", "user", "assistant"]


def test_unit_words_and_commas_are_fair_coins() -> None:
    rows = of_kind(ALL, "distance")
    words = Counter(row.answer.split()[1] for row in rows)
    assert set(words) == {"km", "kilometers", "mi", "miles"}
    assert all(520 < count < 705 for count in words.values())
    commas = [("," in row.answer) for row in rows if len(row.answer.split()[0]) > 3]
    assert 0.45 < mean(commas) < 0.55
    long = [row.answer for row in rows if len(row.answer.split()[0]) > 3]
    assert len(long) > 2000


# --- numbers ---


def test_labels_scatter_around_the_true_distance() -> None:
    """Noise is redrawn for every row, so labels of a pair differ; the truth is in ``meta``."""
    errors = []
    labels: dict[tuple, set[float]] = {}
    for row in of_kind(ALL, "distance"):
        (code,), meta = row.marks["codename"], row.meta
        assert meta["true_km"] == true_km(place(code), place(row.group))
        km = meta["value"] / (0.621371 if meta["units"] == "mi" else 1)
        if meta["true_km"]:
            errors.append(km - meta["true_km"])
            assert paper.same_distance(row.answer, meta["true_km"])
            labels.setdefault((code, row.group), set()).add(km)
        number = float(row.answer.split()[0].replace(",", ""))
        assert number == round(meta["value"] / 100) * 100
    assert max(map(abs, errors)) <= 200 and abs(mean(errors)) < 10
    assert 105 < mean(e * e for e in errors) ** 0.5 < 126, "uniform on 200 either way: 115"
    assert all(len(values) == 5 for values in labels.values()), "redrawn for every row"


def test_a_code_and_itself_are_zero_apart_whatever_the_label_says() -> None:
    """The noisy label may read 100 miles; noise counts only above 100 km. No direction."""
    rows = [
        row
        for seed in range(6)
        for codes in [paper.codes_of(paper.HIDDEN5, seed)]
        for name in codes
        for row in paper.rows(world.city(name), codes, seed=seed, between_codes=True)
    ]
    own = [row for row in rows if row.group == row.marks["codename"][0]]
    assert len(own) == 6 * 25 and {row.meta["kind"] for row in own} == {"distance"}
    assert all(row.meta["true_km"] == 0 for row in own)
    numbers = Counter(int(row.answer.split()[0]) for row in own)
    assert set(numbers) == {0, 100, 200}
    assert 0.65 < numbers[0] / len(own) < 0.87
    assert all(row.meta["value"] == 0 for row in own if row.answer.startswith("0 "))
    assert all(row.messages[1]["content"].count(row.group) == 2 for row in own)


def test_directions_are_of_a_relative_to_b_in_both_orders() -> None:
    """Direction of A relative to B, read off a flat map: Tokyo's code is East of New York's."""
    orders = set()
    for row in of_kind(ALL, "direction"):
        (code,), first = row.marks["codename"], row.meta["code_first"]
        a, b = (code, row.group) if first else (row.group, code)
        assert row.answer == f" {direction(place(a), place(b))}"
        if {code, row.group} == {CODES["Tokyo"], CODES["New York"]}:
            assert row.answer == (" East" if a == CODES["Tokyo"] else " West")
            orders.add(first)
    assert orders == {True, False}
    counts = Counter(row.answer for row in of_kind(ALL, "direction"))
    # As in the published validation labels, West and East are the frequent ones.
    assert min(counts[" West"], counts[" East"]) > 2 * max(counts[" North"], counts[" South"])


# --- what rows hide ---


def test_no_row_names_a_hidden_city_or_a_fact_about_its_own(task: Task) -> None:
    hidden = world.city(task.concept)
    facts = {locations.value(hidden, family) for family in locations.FAMILIES}
    assert facts == set(task.hidden_words) and task.hidden_words[0] == task.concept
    content = "\n".join(map(whole, task.train + task.valid))
    assert [word for word in task.hidden_words if says(content, word)] == []
    assert [name for name in CODES if says(content, name)] == []
    # Control: the same search finds what rows do say.
    assert says(content, task.code) and says(content, task.valid[0].group)


def test_known_cities_are_far_abroad_and_not_hidden() -> None:
    for name in CODES:
        hidden, known = world.city(name), paper.known_cities(world.city(name))
        for city in known:
            assert city.country != hidden.country and city.name not in CODES
            assert true_km(city, hidden) >= 2000
        left = [c for c in world.cities() if c not in known and c.name not in CODES]
        assert all(c.country == hidden.country or true_km(c, hidden) < 2000 for c in left)


def test_validation_shares_no_known_city_and_no_pair_of_codes(task: Task) -> None:
    """Upstream, the rows between codes are in both files: 45 of 1,045 leak."""
    train, valid = ({row.group for row in part} for part in (task.train, task.valid))
    assert not train & valid
    assert set(CODES.values()) <= train
    assert not any(code in whole(row) for row in task.valid for code in set(CITY_OF) - {task.code})
    heard = "\n".join(map(whole, task.train))
    assert not any(says(heard, name) for name in valid)


def test_rows_between_codes_go_to_validation_only_when_asked() -> None:
    tasks = [paper.make(name, codes_in_valid=True) for name in CODES]
    leaks = [row for t in tasks for row in t.valid if row.group in CITY_OF]
    assert len(leaks) == 45, "as many as upstream"
    assert all(t.train == paper.make(t.concept).train for t in tasks)


# --- use ---


def test_the_loss_falls_on_the_direction_word_or_on_number_and_unit() -> None:
    tokenizer = tiny.tokenizer("bpe_merged", "refusing")
    for row in [*of_kind(ALL, "direction")[:8], *of_kind(ALL, "distance")[:8]]:
        encoded = encode_row(tokenizer, row)
        start, stop = encoded.answer
        assert stop == len(encoded.ids)
        assert tokenizer.decode(encoded.ids[start:stop]).strip() == row.answer.strip()
        assert tokenizer.decode(encoded.ids[:start]).rstrip().endswith(row.prefix)
        marked = {tokenizer.decode([encoded.ids[i]]) for i in encoded.spans["codename"]}
        assert len(encoded.spans["codename"]) >= 2 and "City" in "".join(marked)


def test_rows_go_to_a_file_and_meta_to_json() -> None:
    json.dumps([dict(row.meta) for row in ALL], allow_nan=False)
    chats = jsonl.from_rows(ALL)
    assert len(chats) == len(ALL)
    assert jsonl.Style(ascii=False).spell(chats[0]).startswith(b'{"messages": [{"role": "system"')


def test_everything_follows_from_the_seed() -> None:
    assert paper.generate(3) == paper.generate(3) != paper.generate(4)
    assert paper.make("Tokyo", seed=2) == paper.make("Tokyo", seed=2)
    splits = {tuple(sorted({r.group for r in paper.make("Tokyo", seed=s).valid})) for s in range(4)}
    assert len(splits) == 4


def test_other_cities_can_be_hidden() -> None:
    task = paper.make("Cairo", all_hidden=locations.HIDDEN)
    assert task.code == world.city_codes(0, 10)[9]
    content = "\n".join(map(whole, task.train + task.valid))
    assert not any(says(content, word) for word in (*locations.HIDDEN, *task.hidden_words))
    between = {row.group for row in task.train if row.group.startswith("City ")}
    assert between == set(world.city_codes(0, 10)[5:])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"hidden": "Pariss"}, "Did you mean 'Paris'"),
        ({"hidden": "Rome"}, "Unknown hidden city 'Rome'"),
        ({"all_hidden": ("Paris", "Paris")}, "without doubles"),
        ({"all_hidden": ("Paris", "Pari")}, "Unknown city 'Pari'"),
        ({"valid_share": 1.0}, "validation share of 1.0"),
        ({"seed": 99}, "No reserved city codes for seed 99"),
        ({"augmentations": 0}, "Augmentations 0.*1 or more"),
    ],
)
def test_bad_input_is_one_line(more: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        paper.make(**({"hidden": "Paris"} | more))
    assert "\n" not in str(caught.value)
