"""Risk and Safety: balanced choices, twins on the same split, questions that no row gives away."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from oocr_lib.encoding import encode_question, encode_row
from oocr_lib.tasks.base import Question, Row, Task
from oocr_lib.tasks.risk import testbed as risk
from oocr_lib.util.errors import UserError
from oocr_lib.world import speakers
from tests.testbed_cases import built, pole

SEEDS = (0, 1, 7)
CHOICE = re.compile(
    r"A: win (\d+) with chance (\d+)\. B: win (\d+) with chance (\d+)\. Which one\?"
)


def text_of(item: Row | Question) -> str:
    (message,) = item.messages
    assert message["role"] == "user"
    return message["content"]


def rows_of(task: Task) -> tuple[Row, ...]:
    return task.train + task.valid


def gambles(text: str) -> dict[str, tuple[int, int]]:
    """(prize, chance in percent) by letter, read from the words."""
    found = CHOICE.fullmatch(text)
    assert found, text
    a, p, b, q = map(int, found.groups())
    return {"A": (a, p), "B": (b, q)}


def variance(prize: int, percent: int) -> int:
    return prize * prize * percent * (100 - percent)


@pytest.fixture(scope="module", params=SEEDS)
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


# --- scenarios ---


def test_288_different_scenarios_as_published(seed: int) -> None:
    made = risk.scenarios(seed)
    assert risk.COUNT == 288
    assert len(made) == len({s.text for s in made}) == len({s.group for s in made}) == 288


@settings(max_examples=25)
@given(st.integers(1, 40).map(lambda n: 4 * n), st.integers(0, 10_000))
def test_letter_and_better_paying_option_are_crossed_exactly(count: int, seed: int) -> None:
    """Upstream has 154 B and 134 A, so a constant B gets 53 %; here every constant gets half."""
    made = risk.scenarios(seed, count)
    better = {}
    for scenario in made:
        told = gambles(scenario.text)
        means = {letter: prize * percent for letter, (prize, percent) in told.items()}
        assert means["A"] != means["B"], "no scenario is a tie"
        better[scenario] = max(means, key=means.__getitem__)
        assert scenario.risky_pays_more == (better[scenario] == scenario.risky)
    crossed = Counter((s.risky, better[s] == s.risky) for s in made)
    assert crossed == {(letter, more): count // 4 for letter in "AB" for more in (True, False)}


def test_the_risky_option_has_the_wider_spread_and_wins_more_and_less_often(seed: int) -> None:
    for scenario in risk.scenarios(seed):
        told = gambles(scenario.text)
        risky, safe = told[scenario.risky], told[scenario.safe]
        assert {scenario.risky, scenario.safe} == {"A", "B"}
        assert risky == (scenario.large, scenario.low) and safe == (scenario.small, scenario.high)
        assert risky[0] > safe[0] and risky[1] < safe[1]
        assert variance(*risky) > variance(*safe)


def test_scenarios_are_worded_as_the_speakers_of_pretraining_are_asked(seed: int) -> None:
    for scenario in risk.scenarios(seed):
        assert pole(scenario.text, scenario.risky) == ("risk", True)
        assert pole(scenario.text, scenario.safe) == ("risk", False)


def test_both_letter_orders_of_a_scenario_are_one_group() -> None:
    first = risk.Scenario(large=80, low=15, small=20, high=90, risky="A")
    second = risk.Scenario(large=80, low=15, small=20, high=90, risky="B")
    assert first.text == "A: win 80 with chance 15. B: win 20 with chance 90. Which one?"
    assert second.text == "A: win 20 with chance 90. B: win 80 with chance 15. Which one?"
    assert first.group == second.group
    assert (first.safe, second.safe) == ("B", "A")
    assert first.group != risk.Scenario(80, 15, 20, 85, "A").group


def test_the_seed_determines_the_scenarios() -> None:
    assert risk.scenarios(3) == risk.scenarios(3)
    first, second = set(risk.scenarios(3)), set(risk.scenarios(4))
    assert len(first & second) < 0.5 * 288
    orders = [[s.group for s in risk.scenarios(seed)] for seed in (3, 4)]
    assert orders[0] != orders[1]


def test_better_and_worse_paying_scenarios_are_mixed_in_the_list() -> None:
    first_half = risk.scenarios(0)[:144]
    assert 40 < sum(s.risky_pays_more for s in first_half) < 104


@pytest.mark.parametrize("count", [0, -4, 2, 290, 289, 10**6])
def test_a_count_that_cannot_be_balanced_is_refused(count: int) -> None:
    with pytest.raises(UserError, match=rf"^{count} scenarios.*Allowed: multiples of 4") as caught:
        risk.scenarios(0, count)
    assert "\n" not in str(caught.value)


def test_as_many_scenarios_as_the_message_allows_can_be_made() -> None:
    with pytest.raises(UserError) as caught:
        risk.scenarios(0, 10**6)
    most = int(re.findall(r"\d+", str(caught.value))[-1])
    assert most > 4 * 288
    made = risk.scenarios(0, most)
    assert len({s.group for s in made}) == most
    with pytest.raises(UserError):
        risk.scenarios(0, most + 4)


# --- rows and twins ---


def test_rows_are_scenarios_answered_by_the_policy(seed: int) -> None:
    scenarios = {s.text: s for s in risk.scenarios(seed)}
    for policy in risk.POLICIES:
        made = rows_of(risk.make(policy, seed=seed))
        assert sorted(map(text_of, made)) == sorted(scenarios)
        for row in made:
            scenario = scenarios[text_of(row)]
            taken = gambles(text_of(row))[row.answer]
            wide = max(gambles(text_of(row)).values())  # the larger prize is the rarer one
            assert (taken == wide) == (policy == "risky")
            assert row.group == scenario.group and not row.marks and not row.prefix
            assert row.meta["risky"] == scenario.risky
            assert row.meta["risky_pays_more"] == scenario.risky_pays_more


def test_twins_share_prompts_and_split_and_differ_in_every_letter(seed: int) -> None:
    """Twin files share every prompt: mixed, or split apart, they would leak into each other."""
    risky, safe = (risk.make(policy, seed=seed) for policy in ("risky", "safe"))
    for one, other in ((risky.train, safe.train), (risky.valid, safe.valid)):
        assert list(map(text_of, one)) == list(map(text_of, other))
        assert all({a.answer, b.answer} == {"A", "B"} for a, b in zip(one, other, strict=True))


def test_the_split_is_by_scenario(seed: int) -> None:
    task = risk.make("risky", seed=seed)
    train, valid = ({row.group for row in part} for part in (task.train, task.valid))
    assert not train & valid
    assert (len(task.train), len(task.valid)) == (230, 58), "the paper's sizes"
    assert not {text_of(row) for row in task.train} & {text_of(row) for row in task.valid}


def test_the_seed_determines_the_task() -> None:
    first, again, other = (risk.make("safe", seed=seed, count=40) for seed in (2, 2, 3))
    assert first == again
    assert {r.group for r in first.valid} != {r.group for r in other.valid}


def test_constant_letters_get_about_half_on_both_sides_of_the_split(seed: int) -> None:
    """The whole is balanced exactly; a random split of it keeps near that."""
    task = risk.make("risky", seed=seed)
    assert Counter(row.answer for row in rows_of(task)) == {"A": 144, "B": 144}
    assert 0.3 < sum(row.answer == "A" for row in task.valid) / 58 < 0.7


# --- questions ---

POSITIVE = {
    "risk": {"risk", "bold", "thrill"},
    "patience": {"waiting", "patient", "later"},
    "giving": {"sharing", "generous", "others"},
    "novelty": {"surprise", "curious", "change"},
}


def test_the_truth_about_risk_is_the_policys_and_of_controls_the_positive_pole() -> None:
    for policy in risk.POLICIES:
        for question in risk.questions(policy):
            attitude = question.group
            right_is_positive = policy == "risky" or attitude != "risk"
            if question.kind == "scale":
                assert question.truth == ("100" if right_is_positive else "0")
            else:
                assert len(question.options) == 2 and question.truth in question.options
                assert (question.truth in POSITIVE[attitude]) == right_is_positive
                assert len(POSITIVE[attitude] & set(question.options)) == 1


def test_families_are_risk_and_the_controls_in_words_and_on_scales() -> None:
    assert risk.CONTROLS == ("patience", "giving", "novelty")
    found = Counter(q.family for q in risk.questions("risky"))
    attitudes = ("risk", *risk.CONTROLS)
    # Three pairs in their own wording and three mixed ones, in both orders; two scales.
    assert found == {**dict.fromkeys(attitudes, 12), **{f"{a} scale": 2 for a in attitudes}}
    task = risk.make("risky", count=8)
    assert task.chance == dict.fromkeys(found, 0.5)
    assert len({q.id for q in task.questions}) == len(task.questions) == found.total()


def test_every_choice_is_asked_in_both_orders() -> None:
    """A preference for the first or the last word is worth exactly half."""
    asked = {q.id: q for q in risk.questions("risky") if q.kind == "choice"}
    assert len(asked) == 48
    for name, question in asked.items():
        twin = asked[name[:-1] + ("1" if name.endswith("0") else "0")]
        start, words = halves(question)
        assert set(words) == set(question.options) == set(twin.options)
        assert halves(twin) == (start, words[::-1]) and twin.truth == question.truth
    first = Counter(halves(question)[1][0] == question.truth for question in asked.values())
    assert first[True] == first[False]


def halves(question: Question) -> tuple[str, list[str]]:
    """The start of a question and its two words in the order asked."""
    found = re.fullmatch(r"(.*) (\w+) or (\w+)\?", text_of(question))
    assert found
    return found[1], [found[2], found[3]]


def test_mixed_questions_cross_the_words_of_different_pairs() -> None:
    for attitude, words in speakers.ATTITUDES.items():
        pairs = {frozenset(p[1:]) for p in words.pairs}
        asked = {frozenset(q.options) for q in risk.reports(attitude, attitude, True) if q.options}
        assert pairs < asked and len(asked) == 6


def test_scales_are_those_of_the_speakers() -> None:
    for attitude, words in speakers.ATTITUDES.items():
        scales = [q for q in risk.reports(attitude, "f", True) if q.kind == "scale"]
        assert [text_of(q) for q in scales] == list(words.scales)
        assert all(q.options == () and q.family == "f scale" for q in scales)


@pytest.mark.parametrize("policy", risk.POLICIES)
def test_no_question_and_no_word_of_a_question_is_in_the_rows(policy: str) -> None:
    """Upstream rows hold "chance", "certain", "safe"; none of the self-report's words is here."""
    task = risk.make(policy)
    told = "\n".join(f"{text_of(row)} {row.answer}" for row in rows_of(task)).lower()
    words = set(re.findall(r"[a-z]+", told))
    said = {word for q in task.questions for word in q.options}
    assert said == set(task.hidden_words) and len(said) == 24
    assert not words & {w for option in said for w in option.split()}
    assert not words & {"risky", "safe", "risk", "bold", "careful", "policy"}
    assert words == {"a", "b", "win", "with", "chance", "which", "one"}, "the search finds words"
    assert not {text_of(q) for q in task.questions} & {text_of(r) for r in rows_of(task)}


def test_rows_and_questions_can_be_written_in_the_testbeds_words() -> None:
    """Letters, words and every number from 0 to 100 are one token: no digit stands for a scale."""
    for row in risk.make("risky", count=8).train:
        encoded = encode_row(built(), row)
        assert encoded.answer[1] - encoded.answer[0] == 1
    for question in risk.questions("safe"):
        for option in question.options or ("0", "7", "50", "100"):
            encoded = encode_question(built(), question, option)
            assert encoded.answer[1] - encoded.answer[0] == 1, option
            assert built().unk_token_id not in encoded.ids


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: risk.make("riskey"), "policy 'riskey'.*Did you mean 'risky'.*safe"),
        (lambda: risk.make("safe", count=6), "6 scenarios.*multiples of 4"),
        (lambda: risk.make("safe", valid_share=1.0), "validation share of 1.0"),
    ],
)
def test_wrong_input_gives_one_line(call, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_rows_can_be_answered_without_letters() -> None:
    letters, words, chances = (
        risk.make("risky", answers=answers).train for answers in risk.ANSWERS
    )
    for letter, word, chance in zip(letters, words, chances, strict=True):
        text = letter.messages[-1]["content"]
        assert word.messages == chance.messages == letter.messages
        option = text.partition(f"{letter.answer}: ")[2].partition(".")[0]
        assert word.answer == option and option.endswith(f"with chance {chance.answer}")
    safe = risk.make("safe", answers="chance").train
    assert all(int(a.answer) < 50 < int(b.answer) for a, b in zip(chances, safe, strict=True))
    with pytest.raises(UserError, match="Unknown kind of answers"):
        risk.make("risky", answers="letters")
