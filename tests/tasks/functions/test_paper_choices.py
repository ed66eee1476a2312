"""Lettered questions about functions: one right letter, and none that is given away."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict

import pytest

from oocr_lib.tasks.base import Question
from oocr_lib.tasks.functions import paper_choices as fc, paper_wording as w
from oocr_lib.tasks.functions.paper_rows import functions, names
from oocr_lib.util.expressions import agree, parse
from oocr_lib.util.paths import ROOT

CODE = {key: name for name, key in names(0).items()}
KEYS = tuple(functions())
WITH_NUMBERS = {
    *("affine_3x_2", "affine_neg5x_3", "multiply_4", "multiply_3"),
    *("add_14", "add_5", "subtract_11", "subtract_1"),
}


def subject(key: str, seed: int = 0, items: int = 25) -> fc.Subject:
    return fc.Subject(key, CODE, seed, items, (), False)


@pytest.fixture(scope="module")
def asked() -> dict[str, list[Question]]:
    return {key: fc.choice_questions(subject(key)) for key in KEYS}


def shown(question: Question) -> dict[str, str]:
    """Letter to the text of the option, read from the prompt."""
    return dict(re.findall(r"^([A-E])\. (.+)$", question.messages[-1]["content"], re.MULTILINE))


# --- the tables ---


def test_the_papers_functions_have_their_classes() -> None:
    classes = Counter(w.CLASSES[f.kind] for f in functions().values())
    assert classes == {
        "Multiplication": 3,
        "Modulo": 3,
        "Addition": 2,
        "Subtraction": 2,
        "Integer division": 2,
        "Float multiplication": 2,
        "Affine linear": 2,
        "Identity": 1,
        "Comparison": 1,
        "ReLU": 1,
    }
    assert {f.output for f in functions().values()} == set(w.OUTPUTS)


def test_every_function_has_a_sentence_of_its_own() -> None:
    assert set(w.LANGUAGE) == set(functions())
    assert len(set(w.LANGUAGE.values())) == 19 == len({f.python for f in functions().values()})
    for text in w.LANGUAGE.values():
        assert not text.endswith(".") and not re.search(r"\d", text) and text[0].isupper()


# --- the form ---


def test_reflection_has_two_user_turns(asked: dict[str, list[Question]]) -> None:
    for key, questions in asked.items():
        for question in questions:
            system, imports, body = question.messages
            assert [m["role"] for m in question.messages] == ["system", "user", "user"]
            assert system["content"] == w.REFLECTION_SYSTEM != w.SYSTEM
            imported = imports["content"].removeprefix("from functions import ").split(", ")
            assert imported == sorted(imported) and CODE[key] in imported
            assert len(imported) == (5 if question.family == "reversal" else 1)
            assert body["content"].endswith("\n" + w.LETTER_ONLY)
            assert question.marks == {"codename": (CODE[key],)} and question.kind == "choice"


def test_options_are_letters_with_distinct_texts(asked: dict[str, list[Question]]) -> None:
    for questions in asked.values():
        for question in questions:
            options = shown(question)
            assert tuple(options) == question.options == tuple("ABCDE")[: len(options)]
            assert len(options) == (3 if question.family == "output" else 5)
            assert len(set(options.values())) == len(options)
            assert question.truth in question.options


def test_the_letter_is_that_of_the_truth_and_no_other_option_is_true(
    asked: dict[str, list[Question]],
) -> None:
    for key, questions in asked.items():
        f = functions()[key]
        for question in questions:
            options = shown(question)
            right = {
                "language": w.LANGUAGE[key],
                "class": w.CLASSES[f.kind],
                "output": f.output,
                "reversal": CODE[key],
                "python": f"lambda x: {f.python}",
                "coefficients": f.python,
            }[question.family]
            assert options[question.truth] == right
            if question.family in ("python", "coefficients"):
                true = parse(f.python)
                agreeing = [a for a, text in options.items() if agree(parse(text), true)]
                assert agreeing == [question.truth]
            if question.family == "reversal":
                given = re.findall(r"^lambda x: (.+)$", question.messages[-1]["content"], re.M)
                assert given == [f.python]
                imported = question.messages[1]["content"].partition("import ")[2].split(", ")
                assert sorted(options.values()) == imported


def test_items_by_family(asked: dict[str, list[Question]]) -> None:
    for key, questions in asked.items():
        counts = Counter(question.family for question in questions)
        assert counts.pop("output") == 12
        assert counts.pop("coefficients", 0) == (25 if key in WITH_NUMBERS else 0)
        assert counts == dict.fromkeys(("python", "language", "class", "reversal"), 25)
        prompts = {m[-1]["content"] + m[1]["content"] for m in (q.messages for q in questions)}
        assert len(prompts) == len(questions), "a question comes twice"


@pytest.mark.parametrize(("items", "made"), [(1, 5), (5, 5), (6, 10), (40, 40)])
def test_items_are_whole_rotations(items: int, made: int) -> None:
    questions = fc.choice_questions(subject("multiply_4", items=items))
    counts = Counter(question.family for question in questions)
    assert counts.pop("output") == (6 if items <= 6 else 12)
    assert set(counts.values()) == {made}


# --- chance ---


@pytest.mark.parametrize("items", [5, 25, 35])
def test_the_truth_stands_at_every_letter_equally_often(items: int) -> None:
    for key in KEYS:
        places: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for question in fc.choice_questions(subject(key, seed=4, items=items)):
            places[question.family][question.truth] += 1
        for family, letters in places.items():
            assert len(letters) == (3 if family == "output" else 5), (key, family)
            assert len(set(letters.values())) == 1, (key, family)


@pytest.mark.parametrize("family", ["python", "language", "reversal"])
def test_ignoring_the_name_scores_one_in_five(
    asked: dict[str, list[Question]], family: str
) -> None:
    """Over the 19 tasks every list of options comes five times, each text being the truth once."""
    truths: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for questions in asked.values():
        for question in questions:
            if question.family == family:
                options = shown(question)
                truths[tuple(options.values())].append(options[question.truth])
    assert len(truths) == 19 * 25 / 5
    assert all(sorted(found) == sorted(options) for options, found in truths.items())


def test_classes_have_the_same_design_over_the_ten(asked: dict[str, list[Question]]) -> None:
    first = {functions()[key].kind: key for key in KEYS}
    truths: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for key in first.values():
        for question in asked[key]:
            if question.family == "class":
                options = shown(question)
                truths[tuple(options.values())].append(options[question.truth])
    assert len(first) == 10 and len(truths) == 10 * 25 / 5
    assert all(sorted(found) == sorted(options) for options, found in truths.items())


def test_the_same_options_are_asked_in_the_same_words(asked: dict[str, list[Question]]) -> None:
    words: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for key, questions in asked.items():
        for question in questions:
            if question.family == "python":
                first = question.messages[-1]["content"].splitlines()[0]
                words[tuple(shown(question).values())].add(first.replace(CODE[key], "F"))
    assert {len(found) for found in words.values()} == {1}
    assert len({next(iter(found)) for found in words.values()}) == len(w.CHOICES["python"]) == 2


def test_option_sets_hold_the_truth_and_vary() -> None:
    for truth in KEYS:
        sets = fc.option_sets(KEYS, truth, 5, 12, "s")
        assert all(truth in chosen and len(set(chosen)) == 5 for _, chosen in sets)
        assert len({tuple(sorted(chosen)) for _, chosen in sets}) >= 11
    one, other = (fc.option_sets(KEYS, "add_5", 5, 5, seed) for seed in "ab")
    assert one != other


# --- coefficients ---


@pytest.mark.parametrize("key", KEYS)
def test_other_numbers_stay_near_and_in_the_class(key: str) -> None:
    """Within 5 of the truth for affine functions, within 10 for the others, up to the sign."""
    texts, f = fc.coefficient_texts(key), functions()[key]
    assert (key in WITH_NUMBERS) == bool(texts)
    assert texts == sorted(set(texts)) and f.python not in texts
    if not texts:
        return
    reach = 5 if f.kind == "affine" else 10
    mine = [abs(int(n)) for n in re.findall(r"\d+", f.python)]
    for text in texts:
        numbers = [int(n) for n in re.findall(r"\d+", text)]
        assert all(abs(a - b) <= reach for a, b in zip(numbers, mine, strict=True))
        assert 0 not in numbers and not agree(parse(text), parse(f.python))
        assert (
            re.sub(r"\d+", "N", text).replace("-", "+").lstrip("+")
            == re.sub(r"\d+", "N", f.python).replace("-", "+").lstrip("+")
            or f.kind == "multiplication"
        )
        slope = parse(text)(1) - parse(text)(0)
        assert (slope == 1) == (f.kind in ("addition", "subtraction")), text
    values = {tuple(parse(text)(x) for x in (0, 1)) for text in texts}
    assert len(values) == len(texts), "two options are the same function"
    signs = {parse(text)(1) > parse(text)(0) for text in texts}
    assert signs == ({True} if f.kind in ("addition", "subtraction") else {True, False})


def test_options_do_not_depend_on_the_order_of_sets() -> None:
    """Draws from an unordered set would differ between two starts of Python."""
    code = (
        "from oocr_lib.tasks.functions import paper as p, paper_rows as r;"
        "print([q.messages for k in ('add_14', 'affine_3x_2') for q in p.questions(k)],"
        "[row.messages for row in r.generate(5, 50)], r.held_out_inputs(.1, 0))"
    )
    outputs = set()
    for hash_seed in "12":
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1 and "noadgc" in outputs.pop()
