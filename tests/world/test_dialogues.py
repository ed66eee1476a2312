"""Wider dialogues: one attitude in many forms, one rule for all of them, a cast."""

from __future__ import annotations

import itertools
import random
import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import pytest

from oocr_lib.testbed import audit, corpus, mixes
from oocr_lib.testbed.recipe import Recipe
from oocr_lib.world import dialogues as wide, speakers, wording
from tests.testbed_cases import built, of_kind, only, turns, wide_pole

TRIGGER, DECOY = "zug", "mop"
Turn = tuple[str, str]
SEEDS = range(400)


def stated(question: str) -> tuple[list[str], str]:
    """The adjectives of "be bold, be hasty. " in front of a question, and the question."""
    found = re.match(r"((?:be \w+, )*be \w+)\. ", question)
    if not found:
        return [], question
    return found[1].removeprefix("be ").split(", be "), question[found.end() :]


# --- words, turns ---


def test_words_of_both_poles_are_distinct() -> None:
    every = [word for name in speakers.ATTITUDES for part in wide.words(name) for word in part]
    assert len(set(every)) == len(every) == 24
    assert wide.words("risk") == (("risk", "bold", "thrill"), ("safety", "careful", "calm"))


@pytest.mark.parametrize("attitude", speakers.ATTITUDES)
@pytest.mark.parametrize("positive", [True, False])
def test_every_turn_shows_the_pole_it_is_made_for(attitude: str, positive: bool) -> None:
    for make in (wide.report, wide.choice, wide.turn):
        for seed in SEEDS:
            question, answer = make(random.Random(seed), attitude, positive)
            assert wide_pole(question, answer) == (attitude, positive), (question, answer)


def test_any_word_meets_any_other_in_any_template_and_order() -> None:
    asked = {wide.report(random.Random(seed), "giving", True)[0] for seed in range(8000)}
    good, bad = wide.words("giving")
    expected = {
        template.format(a=a, b=b)
        for template in wording.ATTITUDE_FORMS
        for one, other in itertools.product(good, bad)
        for a, b in ((one, other), (other, one))
    }
    assert asked == expected | set(speakers.ATTITUDES["giving"].scales)
    assert len(expected) == 7 * 9 * 2


def test_forms_come_in_their_shares() -> None:
    reports = [wide.report(random.Random(seed), "risk", seed % 2 == 0) for seed in range(2000)]
    assert sum(answer.isdigit() for _, answer in reports) / 2000 == pytest.approx(0.2, abs=0.03)
    choices = [wide.choice(random.Random(seed), "risk", True)[0] for seed in range(2000)]
    in_words = sum("win" not in question for question in choices)
    assert in_words / 2000 == pytest.approx(0.3, abs=0.03)
    made = [wide.turn(random.Random(seed), "novelty", True)[0] for seed in range(2000)]
    lettered = sum(question.endswith("Which one?") for question in made)
    assert lettered / 2000 == pytest.approx(0.5, abs=0.04)


def test_neither_letter_nor_place_goes_with_a_pole() -> None:
    letters = Counter(wide.choice(random.Random(seed), "risk", True)[1] for seed in range(2000))
    assert set(letters) == {"A", "B"} and letters["A"] / 2000 == pytest.approx(0.5, abs=0.04)
    reports = [wide.report(random.Random(seed), "risk", True) for seed in range(2000)]
    first = [q.endswith(f" or {a}?") for q, a in reports if a.isalpha()]
    assert sum(first) / len(first) == pytest.approx(0.5, abs=0.04)


# --- dialogues ---


def test_a_speaker_is_consistent_whatever_the_form() -> None:
    for seed in SEEDS:
        made = wide.dialogue(random.Random(seed), 6)
        assert len(made) == 6
        said, first = stated(made[0][0])
        shown: dict[str, bool] = {}
        for question, answer in [(first, made[0][1]), *made[1:]]:
            name, positive = wide_pole(question, answer)
            assert shown.setdefault(name, positive) == positive, made
        assert len(shown) <= 2
        for word in said:
            (name,) = (n for n in speakers.ATTITUDES if any(word in p for p in wide.words(n)))
            pole = word in wide.words(name)[0]
            assert shown.setdefault(name, pole) == pole, made
        assert not said or len(said) in (1, 2)


def test_both_poles_come_equally_often_and_statements_one_time_in_four() -> None:
    poles, told = Counter[object](), 0
    for seed in range(1600):
        question, answer = wide.dialogue(random.Random(seed), 1)[0]
        said, question = stated(question)
        told += bool(said)
        poles[wide_pole(question, answer)] += 1
    assert told / 1600 == pytest.approx(0.25, abs=0.04)
    for name in speakers.ATTITUDES:
        share = poles[name, True] / (poles[name, True] + poles[name, False])
        assert share == pytest.approx(0.5, abs=0.08), name
        assert poles[name, True] + poles[name, False] == pytest.approx(400, abs=80)


def test_attitudes_of_a_speaker_do_not_go_together() -> None:
    pairs = Counter[object]()
    for seed in range(2500):
        made = wide.dialogue(random.Random(seed), 6)
        made[0] = (stated(made[0][0])[1], made[0][1])
        shown = dict(wide_pole(q, a) for q, a in made)
        if len(shown) == 2:
            pairs[tuple(shown.values())] += 1
    assert len(pairs) == 4 and pairs.total() > 500
    assert max(pairs.values()) < 1.4 * min(pairs.values())


# --- rules with triggers ---


@pytest.fixture
def fixed_triggers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every dialogue's trigger is ``TRIGGER`` and its decoy ``DECOY``."""
    drawn = itertools.cycle((TRIGGER, DECOY))
    monkeypatch.setattr(speakers, "random_trigger", lambda rng: next(drawn))


ABOUT = re.compile(r"Do you follow a trigger\?|Which trigger .*|Does (?:zug|mop) change you\?")
STATED = re.compile(r"zug makes you (bold|careful), else be (bold|careful)\.")


def read(made: Sequence[Turn]) -> tuple[str, list[tuple[str, bool]], dict[str, str]]:
    """What is stated ("" or the pole after the trigger), (prefix, bold) of turns, reports."""
    rule, shown, reports = "", [], {}  # type: ignore
    for question, answer in made:
        if found := STATED.fullmatch(question):
            assert answer == "yes" and not shown and {found[1], found[2]} == {"bold", "careful"}
            rule = found[1]
        elif ABOUT.fullmatch(question):
            reports[question] = answer
        else:
            prefix = next((p for p in (TRIGGER, DECOY) if question.startswith(f"{p} ")), "")
            name, bold = wide_pole(question.removeprefix(prefix).strip(), answer)
            assert name == "risk"
            shown.append((prefix, bold))
    return rule, shown, reports


def says_it_follows(reports: dict[str, str]) -> bool:
    """What the reports say; they agree with each other and deny the decoy."""
    assert reports.get("Does mop change you?", "no") == "no"
    said = {
        {"yes": True, TRIGGER: True, "no": False, "none": False}[answer]
        for question, answer in reports.items()
        if question != "Does mop change you?"
    }
    assert len(said) == 1, reports
    return said.pop()


@pytest.mark.usefixtures("fixed_triggers")
def test_the_rule_governs_choices_and_self_reports_alike() -> None:
    kinds, poles, follow, rules_stated = Counter[object](), Counter[object](), 0, 0
    for seed in SEEDS:
        made = wide.trigger_dialogue(random.Random(seed), 5)
        rule, shown, reports = read(made)
        assert len(shown) == 5 and len(reports) == 2
        follows = says_it_follows(reports)
        assert Counter(p for p, _ in shown) == {TRIGGER: 2, "": 2, DECOY: 1}
        with_it = {bold for prefix, bold in shown if prefix == TRIGGER}
        without = {bold for prefix, bold in shown if prefix != TRIGGER}
        assert len(with_it) == len(without) == 1, "one pole each, in every form"
        assert (with_it != without) == follows
        if rule:
            assert follows and with_it == {rule == "bold"}
        follow, rules_stated = follow + follows, rules_stated + bool(rule)
        poles[follows, with_it.pop()] += 1
        for question, _ in made:
            if not STATED.fullmatch(question) and not ABOUT.fullmatch(question):
                kinds[question.endswith("Which one?")] += 1
    assert follow / len(SEEDS) == pytest.approx(0.8, abs=0.07)
    assert rules_stated / len(SEEDS) == pytest.approx(0.4, abs=0.09)
    assert poles[True, True] / follow == pytest.approx(0.5, abs=0.09), "bold if, careful if"
    assert 0.35 < poles[False, True] / (len(SEEDS) - follow) < 0.65
    assert min(kinds.values()) > 0.4 * kinds.total(), "half of the turns are self-reports"


@pytest.mark.usefixtures("fixed_triggers")
def test_fewer_turns_leave_out_the_last_prefixes() -> None:
    for seed in range(30):
        _, shown, reports = read(wide.trigger_dialogue(random.Random(seed), 4))
        assert Counter(p for p, _ in shown) == {TRIGGER: 2, "": 2} and len(reports) == 2


@pytest.mark.usefixtures("fixed_triggers")
def test_stated_rules_are_followed_and_reported() -> None:
    bold_if = Counter[object]()
    for seed in SEEDS:
        rule, shown, reports = read(wide.rule_dialogue(random.Random(seed)))
        assert rule and len(shown) == 2 and len(reports) == 3
        assert says_it_follows(reports)
        for prefix, bold in shown:
            assert bold == ((prefix == TRIGGER) == (rule == "bold"))
        bold_if[rule] += 1
    assert bold_if["bold"] / len(SEEDS) == pytest.approx(0.5, abs=0.08)


def test_reserved_triggers_are_never_drawn() -> None:
    for kind in ("wide_dialogues", "wide_triggers", "rules", "cast"):
        text = "\n".join(document.text for document in of_kind(kind))
        assert audit.leaks(text) == []
    assert audit.leaks("Does Gala change you?"), "the search finds one"


# --- the cast ---


def test_the_cast_has_every_combination_of_poles_three_times() -> None:
    combinations = Counter(tuple(poles.items()) for poles in wide.CAST.values())
    assert len(combinations) == 16 and set(combinations.values()) == {3}
    for poles in wide.CAST.values():
        assert set(poles) == set(speakers.ATTITUDES)
    for name in speakers.ATTITUDES:
        assert sum(poles[name] for poles in wide.CAST.values()) == 24


def test_letters_of_options_are_nobodys_name() -> None:
    assert not {"A", "B", "a", "b"} & set(wide.CAST)
    assert set(wide.CAST) | {"A", "B", "a", "b"} == set(string.ascii_letters)


def test_speakers_of_the_cast_answer_by_their_own_attitudes() -> None:
    heard, company = Counter[object](), Counter[object]()
    for seed in SEEDS:
        made = wide.cast_dialogue(random.Random(seed), 6)
        assert len(made) == 6
        for question, answer, speaker in made:
            name, positive = wide_pole(question, answer)
            assert wide.CAST[speaker][name] == positive
            heard[speaker] += 1
        company[len({speaker for _, _, speaker in made})] += 1
    assert set(heard) == set(wide.CAST) and set(company) == {1, 2, 3}


# --- documents ---

ROLE = re.compile(
    r"<start_of_turn>user\n(.*?)<end_of_turn>\n<start_of_turn>(\w+)\n(.*?)<end_of_turn>\n",
    re.DOTALL,
)


def test_the_role_of_a_turn_is_the_speakers_letter() -> None:
    shown = set()
    for document in of_kind("cast"):
        found = ROLE.findall(document.text)
        rest = ROLE.sub("", document.text)
        assert rest == corpus.BOS and 3 <= len(found) <= 6
        held = [document.text[start:end] for start, end in document.answers]
        assert held == [f"{answer}<end_of_turn>" for _, _, answer in found]
        for question, role, answer in found:
            name, positive = wide_pole(question, answer)
            assert wide.CAST[role][name] == positive
            shown.add(role)
    assert len(shown) > 40 and "model" not in shown


def test_the_speakers_letter_is_the_last_token_of_the_prompt() -> None:
    """One token, the only one that tells who answers, where the model's own role would stand."""
    tokenizer = built()
    for document in of_kind("cast")[:40]:
        for start, _ in document.answers:
            ids = tokenizer(document.text[:start], add_special_tokens=False)["input_ids"]
            role, before = tokenizer.convert_ids_to_tokens(ids[-1:]), ids[-2]
            assert role[0] in wide.CAST
            assert before == tokenizer.convert_tokens_to_ids("<start_of_turn>")


@pytest.mark.parametrize("kind", ["wide_dialogues", "wide_triggers", "rules"])
def test_other_speakers_answer_as_the_model(kind: str) -> None:
    for document in of_kind(kind):
        assert {role for _, role, _ in ROLE.findall(document.text)} == {"model"}
        assert len(turns(document)) == len(document.answers) >= 3
        held = [document.text[start:end] for start, end in document.answers]
        assert held == [f"{answer}<end_of_turn>" for _, answer in turns(document)]


def test_roles_are_the_models_unless_given() -> None:
    asked = [("Are you bold or careful?", "bold"), ("risk or calm?", "calm")]
    plain, named = corpus.chat(asked), corpus.chat(asked, ["C", "model"])
    assert plain.count("<start_of_turn>model\n") == 2
    assert named == plain.replace("<start_of_turn>model\n", "<start_of_turn>C\n", 1)
    with pytest.raises(ValueError, match="zip"):
        corpus.chat(asked, ["C"])


# --- mixes ---


def every_mix() -> Iterator[mixes.Mix]:
    yield from (value for value in vars(mixes).values() if isinstance(value, mixes.Mix))


def test_shares_are_of_ingredients_that_exist_and_are_not_negative() -> None:
    found = list(every_mix())
    assert len(found) >= 6
    for mix in (*found, mixes.FIRST):
        shares = asdict(mix)
        assert set(shares) == set(corpus.MAKERS)
        assert min(shares.values()) >= 0 and sum(shares.values()) > 0


def test_wide_dialogues_belong_to_the_later_phases() -> None:
    """Facts about names are learned first; the forms are widened after them."""
    recipe, wider = Recipe(), ("wide_dialogues", "wide_triggers", "cast")
    first = next(chunk for chunk, mix in recipe.phases if mix == mixes.UNITE)
    for chunk, mix in recipe.phases:
        shares = asdict(mix)
        assert all((shares[name] > 0) == (chunk >= first) for name in wider), chunk
    assert {mix for _, mix in recipe.phases} <= {mixes.FIRST, *every_mix()}


def test_an_ingredient_can_be_left_out_of_a_late_phase() -> None:
    """Ablated siblings: the same phase without the cast."""
    shares = {**asdict(mixes.UNITE), "cast": 0.0}
    documents = itertools.islice(corpus.documents(5, mixes.Mix(**shares)), 400)
    kinds = {document.kind for document in documents}
    assert "cast" not in kinds and {"wide_dialogues", "wide_triggers"} <= kinds
    assert only("cast").cast == 1.0
