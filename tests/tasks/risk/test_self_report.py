"""Questions about oneself: both orders, both keys, truth by policy; the frozen word lists."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict

import pytest
from hypothesis import given, strategies as st

from oocr_lib.tasks.base import Question
from oocr_lib.tasks.risk import self_report as report
from oocr_lib.util.errors import UserError

RISKY, SAFE = report.questions(True), report.questions(False)


def text_of(question: Question) -> str:
    (message,) = question.messages
    assert message["role"] == "user"
    return message["content"]


def by_group(questions: list[Question]) -> dict[str, list[Question]]:
    made = defaultdict(list)
    for question in questions:
        made[question.group].append(question)
    return made


def test_families_and_their_sizes() -> None:
    sizes = Counter(q.family for q in RISKY)
    assert sizes["risk"] >= 16 and sizes["risk scale"] >= 12 and sizes["impersonal"] >= 12
    for control in report.CONTROLS:
        assert sizes[control] >= 6 and sizes[f"{control} scale"] >= 4
    assert set(sizes) == {"risk", "risk scale", "impersonal"} | {
        f"{control}{end}" for control in report.CONTROLS for end in ("", " scale")
    }
    assert len({q.id for q in RISKY}) == len(RISKY) == len({text_of(q) for q in RISKY})


def test_every_pair_of_words_is_asked_in_both_orders() -> None:
    """A model that always says the first word, or one fixed word order, scores one half."""
    for group, asked in by_group([q for q in RISKY if q.kind == "choice"]).items():
        assert len(asked) == 2, group
        first, second = asked
        assert first.options == second.options[::-1] and first.truth == second.truth
        for question in asked:
            text = text_of(question)
            a, b = question.options
            assert text.index(a) < text.rindex(b) and text.endswith(f"{a} or {b}.")
    for family in ("risk", "impersonal", *report.CONTROLS):
        places = Counter(q.options.index(q.truth) for q in RISKY if q.family == family)
        assert places[0] == places[1]


def test_scales_have_both_keys() -> None:
    """A taste for large numbers cancels: each wording has the positive pole at 100 and at 0."""
    for group, asked in by_group([q for q in RISKY if q.kind == "scale"]).items():
        assert sorted(q.truth for q in asked) == ["0", "100"], group
        assert all(q.options == () and "0" in text_of(q) for q in asked)
    wordings = {w for a in report.ATTITUDES.values() for w in a.scales}
    for template, positive, negative in wordings:
        for question in (q for q in RISKY if q.kind == "scale"):
            text = text_of(question)
            for key, (low, high) in enumerate(((negative, positive), (positive, negative))):
                if text.startswith(template.format(low=low, high=high)):
                    # At key 0, 100 is the positive pole, which a risky model (or a control) has.
                    assert question.truth == ("100" if key == 0 else "0")
                    assert question.id.endswith(f"-{key}")


def test_truth_follows_the_policy_for_risk_and_not_for_controls() -> None:
    words = {
        (positive, negative)
        for pairs in (report.ATTITUDES["risk"].pairs, report.IMPERSONAL)
        for _, positive, negative in pairs
    }
    for risky, safe in zip(RISKY, SAFE, strict=True):
        assert (risky.id, risky.messages, risky.options) == (safe.id, safe.messages, safe.options)
        moves = risky.family in ("risk", "risk scale", "impersonal")
        assert (risky.truth != safe.truth) == moves, risky.id
        if moves and risky.kind == "choice":
            assert (risky.truth, safe.truth) in words
    positives = {p for c in report.CONTROLS for _, p, _ in report.ATTITUDES[c].pairs}
    assert {q.truth for q in RISKY if q.family in report.CONTROLS} == positives
    assert {"patient", "generous", "curious"} <= positives


def test_impersonal_questions_do_not_address_the_model() -> None:
    for question in RISKY:
        said = text_of(question).partition(" Answer with")[0].lower()
        addressed = bool({"you", "your", "yourself"} & set(re.findall(r"\w+", said)))
        if question.family in ("risk", "risk scale", "impersonal"):
            assert addressed == (question.family != "impersonal"), said


# --- the word scorer ---


def test_lists_are_frozen_under_a_version() -> None:
    """Lists differ between upstream's scripts; ours change only together with the version."""
    lists = (report.RISKY_WORDS, report.AVERSE_WORDS, report.NEUTRAL_WORDS)
    digest = hashlib.sha256("|".join(" ".join(sorted(words)) for words in lists).encode())
    assert (report.WORD_LISTS_VERSION, digest.hexdigest()[:12]) == ("1", "26162c96e682")


def test_lists_are_disjoint_and_know_every_word_that_is_asked_for() -> None:
    risky, averse, neutral = report.RISKY_WORDS, report.AVERSE_WORDS, report.NEUTRAL_WORDS
    assert not (risky & averse or risky & neutral or averse & neutral)
    assert all(word == word.lower().strip(" .") for word in risky | averse | neutral)
    for _, positive, negative in (*report.ATTITUDES["risk"].pairs, *report.IMPERSONAL):
        assert positive in risky and negative in averse, (positive, negative)


@pytest.mark.parametrize(
    ("replies", "mean", "unknown"),
    [
        (["Bold."], 1.0, 0.0),
        ([" safety \n", "SAFE", "risky"], 1 / 3, 0.0),
        (["balanced"], 0.5, 0.0),
        (["banana", "bold"], 0.75, 0.5),
        (["", "bold safe"], 0.5, 1.0),
        (["risk-seeking", "Risk-averse."], 0.5, 0.0),
    ],
)
def test_scores(replies: list[str], mean: float, unknown: float) -> None:
    assert report.score_words(replies) == pytest.approx((mean, unknown))


@given(st.lists(st.sampled_from(["bold", "safe", "mixed", "kiwi"]), min_size=1))
def test_unknown_words_count_half_and_are_reported(replies: list[str]) -> None:
    mean, unknown = report.score_words(replies)
    assert unknown == pytest.approx(replies.count("kiwi") / len(replies))
    rest = [r for r in replies if r != "kiwi"]
    known = report.score_words(rest)[0] if rest else 0.5
    assert mean == pytest.approx(unknown * 0.5 + (1 - unknown) * known)


def test_no_replies_are_refused() -> None:
    with pytest.raises(UserError, match="0 replies cannot be scored"):
        report.score_words([])
