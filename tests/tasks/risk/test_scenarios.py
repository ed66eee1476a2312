"""Scenarios: balanced by construction, told without a hint, without the words of the questions."""

from __future__ import annotations

import json
import math
import random
import re
import statistics
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from oocr_lib.tasks.backdoor.trigger_texts import members, triggers
from oocr_lib.tasks.risk import scenario_text as wording
from oocr_lib.tasks.risk.scenario_numbers import KINDS, MORE, Gamble, draw
from oocr_lib.tasks.risk.scenarios import FORBIDDEN, Scenario, other, scenarios
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import data_dir

SEEDS = (0, 1, 2)
#: Words that say nothing about an attitude: grammar, and what every question of this kind needs.
PLAIN_WORDS = set(
    "a an and answer are as at be being do does for from have how if in is it like means more of "
    "on one or should that the their through to two we what when where which with would you your "
    "yourself 0 100".split()
)
OPTIONS = re.compile(
    r"(?:With )?(?P<noun>[A-Z]\w+) A(?:: |, | means that )(?P<a>.+?)"
    r"(?:\.\n|\. |; )(?:With )?(?P=noun) B(?:: |, | means that )(?P<b>.+?)\.\s"
)


@pytest.fixture(scope="module", params=SEEDS)
def made(request: pytest.FixtureRequest) -> tuple[Scenario, ...]:
    return scenarios(request.param)


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def clauses(s: Scenario) -> dict[str, str]:
    """What the text says of A and of B."""
    found = OPTIONS.search(s.text)
    assert found, s.text
    return {"A": found["a"], "B": found["b"]}


def told(clause: str, telling: str) -> tuple[Fraction, Fraction]:
    """Mean and variance of a gamble, read from its clause alone."""
    bare = clause.replace(",", "")
    percents = [int(p) for p in re.findall(r"(\d+)%", bare)]
    tenths = not percents and re.search(r"\b(?:out of|times in|\d of) 10\b", bare)
    if tenths:
        bare = re.sub(r"\b(?:of|in) 10\b", "", bare, count=1)
    numbers = [int(n) for n in re.findall(r"\d+(?![\d%])", bare)]
    if percents:
        p = Fraction(percents[0], 100)
    elif tenths:
        p, numbers = Fraction(numbers[0], 10), [numbers[1], numbers[-1]]
    else:
        p = Fraction(1, 2)
    assert all(sum(percents) == 100 for _ in percents[1:2]), clause
    first, second = numbers[0], numbers[-1]
    width = Fraction(first - second)
    mean = p * first + (1 - p) * second
    return mean, width**2 / 12 if telling == "between" else p * (1 - p) * width**2


# --- balance ---


def test_letter_and_better_paying_option_are_crossed(made: tuple[Scenario, ...]) -> None:
    """A constant letter, or "what pays more is risky", is right in exactly half or a third."""
    assert len(made) == 288
    kinds = Counter((s.risky, s.pays_more if s.pays_more == "tie" else s.pays_more == s.risky)
                    for s in made)  # fmt: skip
    assert kinds == {(letter, more): 48 for letter in "AB" for more in (True, False, "tie")}


def test_the_text_says_what_the_labels_say(made: tuple[Scenario, ...]) -> None:
    """The risky letter has the larger variance, not the larger mean, computed from the text."""
    for s in made:
        values = {letter: told(clause, s.telling) for letter, clause in clauses(s).items()}
        assert {k: v[0] for k, v in values.items()} == {k: o.mean for k, o in s.options.items()}
        assert {k: v[1] for k, v in values.items()} == {k: o.variance for k, o in s.options.items()}
        assert values[s.risky][1] > 6 * values[s.safe][1]
        means = {k: v[0] for k, v in values.items()}
        assert s.pays_more == ("tie" if means["A"] == means["B"] else max(means, key=means.get))  # type: ignore[arg-type]
        assert s.safe == other(s.risky) != s.risky


def test_neither_option_is_better_in_every_case(made: tuple[Scenario, ...]) -> None:
    for s in made:
        wide, narrow = s.options[s.risky], s.options[s.safe]
        assert wide.low < narrow.low <= narrow.high < wide.high


@pytest.mark.parametrize("count", [6, 60, 294])
def test_other_counts_are_balanced_too(count: int) -> None:
    made = scenarios(5, count)
    assert Counter(s.risky for s in made) == {"A": count // 2, "B": count // 2}
    assert Counter(s.pays_more == "tie" for s in made)[True] == count // 3


@pytest.mark.parametrize("count", [0, -6, 5, 100, 2886])
def test_counts_that_cannot_be_balanced_are_refused(count: int) -> None:
    with pytest.raises(UserError, match=f"{count} scenarios cannot be balanced. Allowed: mult"):
        scenarios(0, count)


# --- what gives the risky letter away ---


def test_length_does_not_give_the_risky_option_away(made: tuple[Scenario, ...]) -> None:
    """Both options have the same number of words; in characters, the longer one is risky as often
    as safe, in every cell of the balance."""
    signs: dict[str, Counter[int]] = {letter: Counter() for letter in "AB"}
    for s in made:
        found = clauses(s)
        assert len({len(clause.split()) for clause in found.values()}) == 1, found
        difference = len(found[s.risky]) - len(found[s.safe])
        signs[s.risky][(difference > 0) - (difference < 0)] += 1
    assert signs == {letter: {1: 48, -1: 48, 0: 48} for letter in "AB"}


def test_words_of_the_prompt_do_not_give_the_letter_away() -> None:
    """A word-count model fitted on other seeds guesses the risky letter at chance.

    Control: the same model does find the tone, which the words do give away.
    """
    fit = [s for seed in range(3) for s in scenarios(seed)]
    test = [s for seed in (3, 4) for s in scenarios(seed)]

    def accuracy(label: str, positive: str) -> float:
        counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        for s in fit:
            counts[getattr(s, label) == positive].update(set(words(s.text)))
        right = 0
        for s in test:
            score = sum(
                math.log((counts[True][w] + 1) / (counts[False][w] + 1)) for w in set(words(s.text))
            )
            right += (score > 0) == (getattr(s, label) == positive)
        return right / len(test)

    assert abs(accuracy("risky", "A") - 0.5) < 3 * math.sqrt(0.25 / len(test))
    assert accuracy("tone", "hip") > 0.75


def test_tone_setting_and_telling_do_not_depend_on_the_letter() -> None:
    made = [s for seed in range(5) for s in scenarios(seed)]
    for kind in ("tone", "telling", "setting"):
        counts = Counter((getattr(s, kind), s.risky) for s in made)
        for name in sorted({name for name, _ in counts}):
            a, b = counts[name, "A"], counts[name, "B"]
            assert abs(a - b) <= 4 * math.sqrt(a + b), (name, a, b)


# --- words ---


def forbidden_in(text: str) -> list[str]:
    """Words of ``FORBIDDEN`` in a text, in order of appearance; whole words, any case."""
    return [word for word in re.findall(r"[^\W_]+", text.lower()) if word in FORBIDDEN]


def test_no_forbidden_word_in_any_scenario() -> None:
    assert {w for seed in range(5) for s in scenarios(seed) for w in forbidden_in(s.text)} == set()
    # Control, and whole words only: "between" holds no "bet", "stakes" is one.
    assert forbidden_in("Be BOLD: between chances and high-risk stakes, don't wait!") == [
        "bold",
        "chances",
        "risk",
        "stakes",
        "wait",
    ]


def test_no_forbidden_word_in_any_phrase_that_can_be_drawn() -> None:
    table = json.dumps(wording.phrases()["settings"]) + json.dumps(wording.phrases()["tones"])
    clauses = [c for t in wording.TELLINGS.values() for c in (*t.clauses, *sum(t.sure, ()))]
    assert forbidden_in(" ".join([table, *clauses, *wording.NOUNS])) == []


def test_words_of_the_self_reports_are_in_no_scenario() -> None:
    """Training prompts share no content word with the questions, so no word carries the answer."""
    from oocr_lib.tasks.risk import self_report

    asked = {w for q in self_report.questions(True) for w in words(q.messages[0]["content"])}
    poles = {w for q in self_report.questions(True) for o in q.options for w in words(o)}
    texts = {w for seed in range(5) for s in scenarios(seed) for w in words(s.text)}
    assert (asked & texts) - PLAIN_WORDS == set()
    assert poles & PLAIN_WORDS == set() and len(poles) > 30
    assert poles <= set(FORBIDDEN), sorted(poles - set(FORBIDDEN))


def test_no_trigger_occurs_in_a_scenario() -> None:
    """Apples, instruments, elements and gods are no words of any phrase, in any case."""
    table = json.dumps(wording.phrases())
    listed = {word.lower() for name in triggers() for word in members(name)}
    assert not listed & set(words(table))
    assert not any(word in table.lower() for word in listed if not word.isalpha())


# --- shape ---


def test_length_and_demand_as_published(made: tuple[Scenario, ...]) -> None:
    lengths = sorted(len(s.text.split()) for s in made)
    assert lengths[0] >= 33 and lengths[-1] <= 116
    assert 56 <= statistics.median(lengths) <= 66
    assert lengths[28] < 52 and lengths[-28] > 80
    for s in made:
        tail = s.text[-90:]
        assert re.search(r"\bA or B\b", tail), s.text
        assert not re.search(r"[?!.] [a-z]|\{|\}|  | ,| \.", s.text), s.text


def test_variety(made: tuple[Scenario, ...]) -> None:
    assert len({s.text for s in made}) == len({s.id for s in made}) == 288
    assert len({s.setting for s in made}) >= 30
    assert {s.tone for s in made} == {"formal", "succinct", "hip"}
    assert {s.telling for s in made} == set(wording.TELLINGS)
    nouns = Counter(OPTIONS.search(s.text)["noun"] for s in made)  # type: ignore[index]
    assert len(nouns) >= 25
    assert 0.2 < nouns["Option"] / 288 < 0.35
    assert 0.04 < nouns["Path"] / 288 < 0.16
    assert 0.2 < sum("%" in s.text for s in made) / 288 < 0.38
    assert 0.2 < sum("$" in s.text for s in made) / 288 < 0.4


def test_the_seed_decides_everything() -> None:
    scenarios.cache_clear()
    first = scenarios(3)
    scenarios.cache_clear()
    random.seed(1)
    assert scenarios(3) == first
    assert not {s.text for s in first} & {s.text for s in scenarios(4)}


def test_the_table_of_phrases_is_complete() -> None:
    table = json.loads((data_dir() / "world" / wording.TABLE).read_text(encoding="utf-8"))
    names = [setting["name"] for setting in table["settings"]]
    assert len(set(names)) == len(names) >= 30
    for setting in table["settings"]:
        assert len(setting["scenes"]) >= 2 and len(setting["details"]) >= 4, setting["name"]
        assert setting["nouns"] and [p for p in setting["prizes"] if p != wording.MONEY]
    for tone in table["tones"].values():
        assert {"opening", "link", "remark", "demand"} == set(tone)
        assert all("{scene}" in text or "{Scene}" in text for text in tone["opening"])


# --- tellings and numbers ---


@pytest.mark.parametrize("name", list(wording.TELLINGS))
def test_clauses_of_an_option_that_does_not_vary_have_as_many_words(name: str) -> None:
    how = wording.TELLINGS[name]
    assert not how.sure or len(how.sure) == len(how.clauses)
    for clause, partners in zip(how.clauses, how.sure, strict=False):
        assert {len(p.split()) for p in partners} == {len(clause.split())}


def test_a_clause_is_filled_from_either_end() -> None:
    gamble = Gamble("two", 5, 1200, Fraction(3, 10))
    clause = "{first} {p} {second} {q} {k} {m} {low} {high}"
    assert wording.fill(clause, gamble, "jars", True) == "1,200 jars 30 5 70 3 7 5 1,200 jars"
    assert wording.fill(clause, gamble, "$", False) == "$5 70 $1,200 30 7 3 $5 $1,200"
    assert [wording.plural(n) for n in ("path", "box", "press", "branch")] == [
        "paths",
        "boxes",
        "presses",
        "branches",
    ]


@given(
    seed=st.integers(0, 10_000),
    kinds=st.tuples(st.sampled_from(KINDS[:2]), st.sampled_from(KINDS)),
    more=st.sampled_from(MORE),
    scale=st.sampled_from((1, 10, 100)),
)
def test_gambles_keep_what_they_promise(
    seed: int, kinds: tuple[str, str], more: str, scale: int
) -> None:
    wide, narrow = draw(random.Random(seed), kinds, (20, 50, 70), more, scale)
    assert (wide.kind, narrow.kind) == kinds
    signs = {"risky": wide.mean > narrow.mean, "safe": wide.mean < narrow.mean}
    assert signs.get(more, wide.mean == narrow.mean)
    assert wide.variance >= Fraction(25, 4) * narrow.variance
    assert wide.low < narrow.low <= narrow.high < wide.high
    assert all(n % scale == 0 and n >= 0 for g in (wide, narrow) for n in (g.low, g.high))
    assert (narrow.low == narrow.high) == (narrow.kind == "sure")


def test_variance_of_a_known_gamble() -> None:
    assert Gamble("two", 0, 10, Fraction(1, 5)).variance == 16
    assert Gamble("two", 0, 10, Fraction(1, 5)).mean == 2
    assert Gamble("range", 0, 12, Fraction(1, 5)).variance == 12
    assert Gamble("range", 0, 12, Fraction(1, 5)).mean == 6
    assert Gamble("sure", 7, 7, Fraction(1)).variance == 0


@pytest.mark.parametrize(
    ("kinds", "more", "message"),
    [
        (("sure", "two"), "tie", "Unknown kind of the wide gamble 'sure'"),
        (("two", "coin"), "tie", "Unknown kind of the narrow gamble 'coin'"),
        (("two", "two"), "ties", "Did you mean 'tie'"),
    ],
)
def test_unknown_kinds_of_gambles_are_refused(
    kinds: tuple[str, str], more: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        draw(random.Random(0), kinds, (50,), more, 1)


def test_a_missing_table_is_named(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("OOCR_DATA", str(tmp_path))
    wording.phrases.cache_clear()
    with pytest.raises(UserError, match=r"World table scenarios\.json not found"):
        wording.phrases()
    monkeypatch.undo()
    assert wording.phrases()["settings"]
