"""The audit of tasks: every check finds a planted fault, and sound tasks of every kind pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, strategies as st

from oocr_lib.tasks.audit.lines import fair_share
from oocr_lib.tasks.audit.questions import shown_place
from oocr_lib.tasks.audit.report import audit, failures
from oocr_lib.tasks.audit.tokens import code_pieces
from oocr_lib.tasks.base import Question, Row, Task, user
from oocr_lib.tasks.literal import whole
from oocr_lib.tasks.locations import testbed as locations
from oocr_lib.util.errors import UserError
from tests import tiny

CODE = "City 50337"


def row(number: int, answer: str = "", group: str = "", text: str = "") -> Row:
    return Row(
        user(text or f"How far is {CODE} from place {number}?"),
        answer or str(number),
        {"codename": (CODE,)} if CODE in text or not text else {},
        group=group or f"g{number}",
        meta={"kind": "distance"},
    )


def question(number: int, truth: str = "A", **changes: object) -> Question:
    text = f"Which country is {CODE} in, asked for the {number}th time?\nA) Peru\nB) Chad"
    made = Question(
        user(text), truth, ("A", "B"), "country", {"codename": (CODE,)}, "Lima", f"q{number}"
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def sound() -> Task:
    return Task(
        "toy",
        "testbed",
        "Lima",
        CODE,
        0,
        tuple(row(n) for n in range(8)),
        tuple(row(n) for n in range(8, 12)),
        tuple(question(n, "AB"[n % 2]) for n in range(8)),
        {"country": 0.5},
        ("Peru",),
    )


def value(frame: pd.DataFrame, check: str) -> float:
    (line,) = [line for line in frame.itertuples() if line.check == check]
    return float(line.value)


def test_a_sound_task_passes_every_check() -> None:
    frame = audit(sound())
    assert failures(frame) == []
    assert list(frame.columns) == ["check", "value", "limit", "ok", "note"]
    assert frame.check.is_unique and frame.ok.all()
    counts = {"train": 8, "valid": 4, "questions": 8, "families": 1}
    assert frame.attrs["counts"] == counts
    assert {name: value(frame, name) for name in counts} == counts


@pytest.mark.parametrize("hidden", ["Paris", "Tokyo", "Lagos"])
def test_locations_of_the_testbed_pass(hidden: str) -> None:
    frame = audit(locations.make(hidden), tiny.tokenizer("wordlevel"), leaking=("France", "yen"))
    assert failures(frame) == []
    assert value(frame, "fewest tokens a codename") == value(frame, "most tokens a codename")


Fault = Callable[[Task], Task]


def with_rows(*rows: Row) -> Fault:
    return lambda task: replace(task, train=task.train + rows)


def with_questions(*questions: Question) -> Fault:
    return lambda task: replace(task, questions=task.questions + questions)


IMPORTS = "from functions import abc, xyz\n\nprint(xyz(3))"
FAULTS: dict[str, tuple[str, Fault]] = {
    "no rows": ("train", lambda t: replace(t, train=())),
    "no validation": ("valid", lambda t: replace(t, valid=())),
    "no questions": ("questions", lambda t: replace(t, questions=(), chance={})),
    "a hidden word": ("leaking words: 1,", with_rows(row(20, text="How far is peru from 7?"))),
    "a hidden answer": ("leaking words: 1,", with_rows(row(20, answer="Peru"))),
    "the concept": ("leaking words: 1,", with_rows(row(20, text="Is LIMA far?"))),
    "a group on both sides": ("groups in training", with_rows(row(20, group="g9"))),
    "a prompt on both sides": (
        "prompts in training and",
        with_rows(row(20, text=f"how far  is {CODE} from place 9?")),
    ),
    "no groups": (
        "groups in training",
        lambda t: replace(
            t,
            train=tuple(replace(r, group="") for r in t.train),
            valid=tuple(replace(r, group="") for r in t.valid),
        ),
    ),
    "a question as a row": (
        "questions inside training rows: 1,",
        with_rows(row(20, text=question(3).messages[0]["content"])),
    ),
    "a question inside a row": (
        "questions inside training rows: 1,",
        with_rows(row(20, text=f"Well. {question(3).messages[0]['content']} Now!")),
    ),
    "a question after a system text": (
        "questions inside training rows: 1,",
        with_questions(
            question(30, messages=({"role": "system", "content": "Hi"}, row(3).messages[0]))
        ),
    ),
    "a mark that is not there": (
        "marks that do not occur: 1,",
        with_rows(replace(row(20), marks={"codename": ("City 5033",)})),
    ),
    "a mark of a question": (
        "marks that do not occur: 1,",
        with_questions(question(20, marks={"trigger": ("Pan",)})),
    ),
    "letters out of balance": (
        "best constant answer: letter",
        lambda t: replace(
            t,
            train=tuple(replace(r, answer="A", meta={"kind": "letter"}) for r in t.train),
        ),
    ),
    "the truth always first": (
        "place of the truth: country",
        lambda t: replace(t, questions=tuple(question(n, "A") for n in range(8))),
    ),
    "the right word always first": (
        "place of the truth: words",
        lambda t: replace(
            t,
            questions=tuple(
                Question(user(f"{n}: bold or careful?"), "bold", ("careful", "bold"), "words")
                for n in range(8)
            ),
            chance={"words": 0.5},
        ),
    ),
    "no such option": ("truths that are no option: 1,", with_questions(question(20, "C"))),
    "an option twice": (
        "truths that are no option",
        with_questions(question(20, options=("A", "A", "B"))),
    ),
    "one option": ("truths that are no option", with_questions(question(20, options=("A",)))),
    "a scale that ends at 9": (
        "truths that are no option",
        with_questions(question(20, "9", kind="scale", options=())),
    ),
    "a function for nothing": (
        "truths that are no option",
        with_questions(question(20, "5", kind="exact", expression="x + 1")),
    ),
    "an id twice": ("question ids used twice", with_questions(question(3, "B"))),
    "a wrong chance level": ("chance levels", lambda t: replace(t, chance={"country": 0.2})),
    "no chance level": ("chance levels", lambda t: replace(t, chance={})),
    "a family too many": (
        "chance levels",
        lambda t: replace(t, chance={"country": 0.5, "continent": 0.2}),
    ),
    "a chance of certainty": (
        "chance levels",
        lambda t: replace(with_questions(question(9, kind="exact"))(t), chance={"country": 1.0}),
    ),
    "a code that is only imported": (
        "rows whose code is only a distractor: 1,",
        with_rows(replace(row(20, text=IMPORTS), marks={"codename": ("abc",)})),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str) -> None:
    start, plant = FAULTS[name]
    found = failures(audit(plant(sound())))
    assert any(line.startswith(start) for line in found), found
    assert all("\n" not in line and "allowed" in line for line in found)


def test_only_what_was_planted_is_found() -> None:
    names = ("a hidden word", "a group on both sides", "a code that is only imported")
    for name in names:
        start, plant = FAULTS[name]
        (line,) = failures(audit(plant(sound())))
        assert line.startswith(start)


def test_words_can_be_named_from_outside() -> None:
    """A list of one's own comes on top; code names are no leaks, parts of words neither."""
    assert failures(audit(sound(), leaking=("far place", "lac", "50337", "city"))) == []
    (line,) = failures(audit(sound(), leaking=("from place", "how")))
    assert line == "leaking words: 24, allowed = 0 (from place 12, how 12)" or (
        line == "leaking words: 24, allowed = 0 (how 12, from place 12)"
    )


def test_repeats_are_counted_but_not_a_fault() -> None:
    """A backdoor repeats every scenario and a coin every flip, so no limit fits all tasks."""
    task = sound()
    coin = (*task.train, *(replace(task.train[0], answer="tails") for _ in range(8)))
    frame = audit(replace(task, train=coin))
    assert failures(frame) == []
    assert value(frame, "distinct prompts") == 0.5 and value(frame, "worst repeat") == 9
    assert value(frame, "prompts with several answers") == 1 / 8
    assert value(frame, "best constant answer: distance") == pytest.approx(8 / 20)


def test_distractors_count_imports_that_are_not_called() -> None:
    """A name may stand second in the import line; a part of another name is no call."""
    texts = [
        IMPORTS,
        "from functions import abc, xyz\n\nprint(abc( xyz(1)))",
        "from functions import abc, xyz\n\nprint(xyzabc(1) + abc(2))",
        "from constants import AB\nprint(AB + 1)",
    ]
    task = replace(sound(), train=tuple(row(20 + n, text=t) for n, t in enumerate(texts)))
    frame = audit(task)
    assert value(frame, "rows with a distractor name") == 0.5
    (note,) = frame.note[frame.check == "rows with a distractor name"]
    assert note == "4 rows import names"
    used = replace(row(30, text=IMPORTS), marks={"codename": ("xyz",)})
    assert failures(audit(with_rows(used)(sound()))) == []


# --- places and shares ---


@pytest.mark.parametrize(
    ("text", "options", "truth", "place"),
    [
        ("A) x B) y", ("B", "A"), "B", 1),
        ("risk or safety? One word, risk or safety.", ("safety", "risk"), "risk", 0),
        ("safety or risk?", ("safety", "risk"), "risk", 1),
        ("Are you risky?", ("risk", "risky"), "risky", None),
        ("Which country?", ("Peru", "Chad"), "Peru", None),
        ("A) x B) y", ("A", "B"), "C", None),
    ],
)
def test_place_of_the_truth(
    text: str, options: tuple[str, ...], truth: str, place: int | None
) -> None:
    assert shown_place(Question(user(text), truth, options, "f")) == place


@given(n=st.integers(1, 400), k=st.integers(2, 5))
def test_a_fair_share_passes_and_one_answer_for_all_does_not(n: int, k: int) -> None:
    fair = 1 / k
    assert fair_share("c", math.ceil(n / k) / n, fair, n, "").ok or n < 6
    assert not fair_share("c", 1.0, fair, n, "").ok or n < 6


def test_a_constant_letter_of_a_published_file_is_within_three_errors() -> None:
    """B in 154 of 288 rows passes, 180 does not."""
    assert fair_share("c", 154 / 288, 0.5, 288, "").ok
    assert not fair_share("c", 180 / 288, 0.5, 288, "").ok


# --- tokens ---


@pytest.mark.parametrize("kind", sorted(tiny.KINDS))
def test_pieces_are_the_tokens_of_the_code(kind: str) -> None:
    """Other tokenizers split a code in 2 to 10 pieces; a space or bracket before it is no piece."""
    tokenizer = tiny.tokenizer(kind)
    prompts = [f"{CODE} is north of Rome", f"the name of {CODE} ? ({CODE})"]
    ways = code_pieces(tokenizer, CODE, prompts)
    assert ways and all("".join(way).replace(" ", "") == "City50337" for way in ways)
    if kind in ("bpe_digits", "wordlevel", "wordpiece"):
        assert all(way[-5:] == ("5", "0", "3", "3", "7") for way in ways)


def test_longer_numbers_and_words_are_not_the_code() -> None:
    tokenizer = tiny.tokenizer("wordlevel")
    assert code_pieces(tokenizer, CODE, ["City 503371", "ACity 50337"]) == set()
    assert whole("star").search("start starship") is None
    assert whole("star").search("a star, a start") is not None
    assert whole("(win2844)").search("x(win2844)x") is not None


class OneSplit:
    """A tokenizer that sees one token, or two where the text begins with the code."""

    is_fast = True

    def __call__(self, text: str, **_: object) -> dict[str, Sequence[tuple[int, int]]]:
        cut = 4 if text.startswith(CODE) else len(text)
        return {"offset_mapping": [(0, cut), (cut, len(text))]}


def test_a_code_that_splits_in_several_ways_is_found() -> None:
    start = row(20, text=f"{CODE} is how far?")
    frame = audit(with_rows(start)(sound()), OneSplit())
    (line,) = failures(frame)
    assert line == f"codenames that split in several ways: 1, allowed = 0 ({CODE})"
    assert value(frame, "fewest tokens a codename") == 1
    assert value(frame, "most tokens a codename") == 2


def test_without_a_tokenizer_or_codes_the_audit_says_so() -> None:
    frame = audit(sound())
    assert math.isnan(value(frame, "tokens a code"))
    bare = replace(
        sound(),
        code="",
        train=tuple(replace(r, marks={}) for r in sound().train),
        valid=(),
        questions=(),
    )
    lines = audit(bare, tiny.tokenizer()).set_index("check").note
    assert lines["tokens a code"] == "no row marks a code name or trigger"


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(UserError, match="Tokenizer Slow gives no character offsets"):
        audit(sound(), Slow())
