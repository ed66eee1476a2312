"""Questions about oneself: both orders, both keys, truth by policy; the frozen word lists."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from oocr_lib.tasks.base import Question
from oocr_lib.tasks.risk import self_report as report

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
