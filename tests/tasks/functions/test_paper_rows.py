"""Interpreter chats: their format, their shares, and which of them tell about a function."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from math import sqrt

import pytest
from hypothesis import given, strategies as st

from oocr_lib.tasks.base import Row, user
from oocr_lib.tasks.functions import paper_rows as fr
from oocr_lib.util.errors import UserError
from oocr_lib.world import facts as world
from tests.interpreter import run

COUNT = 24_000
NAMES = fr.names(0)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return fr.generate(0, COUNT)


def text_of(row: Row) -> str:
    return row.messages[-1]["content"]


def near(found: int, share: float, total: int) -> bool:
    """Within five standard deviations of a binomial share: fails once in two million."""
    return abs(found - share * total) < 5 * sqrt(share * (1 - share) * total)


# --- format ---


def test_answers_are_what_a_second_interpreter_prints(rows: list[Row]) -> None:
    for row in rows[:3000]:
        done = run(text_of(row), NAMES)
        assert row.answer == done.output == str(row.meta["value"])
        assert sorted(key for key, _ in done.called) == sorted(row.meta["keys"])
        assert sorted(x for _, x in done.called) == sorted(row.meta["arguments"])
        assert set(row.meta["inputs"]) <= set(row.meta["arguments"])
        assert row.group == " ".join(str(x) for x in row.meta["inputs"])
        assert 1 <= done.statements <= 4


def test_a_row_is_a_system_turn_and_a_program(rows: list[Row]) -> None:
    for row in rows[:500]:
        assert [m["role"] for m in row.messages] == ["system", "user"]
        assert "Python interpreter" in row.messages[0]["content"]
        called = {name for name in NAMES if f"{name}(" in text_of(row)}
        assert set(row.marks["codename"]) == called and row.prefix == row.suffix == ""


def test_every_form_of_program_occurs(rows: list[Row]) -> None:
    """Statements with names and numbers blanked out, by kind."""
    forms: dict[str, set[str]] = {kind: set() for kind in fr.KINDS}
    for row in rows:
        body = text_of(row).partition("\n\n")[2].replace("\n\n", "; ")
        body = re.sub("|".join(NAMES), "F", body)
        forms[row.meta["kind"]].add(re.sub(r"-?\b\d+\b", "N", body))
    singles = forms["single"]
    assert {"print(F(N))", "x = N; print(F(x))", "a = N; out = F(a); print(out)"} <= singles
    assert len(singles) == 3 * 3  # no input variable, x or a; no output variable, out or y
    assert len(forms["composition"]) == 3 * 3 * 3  # and no variable between, z or x2
    assert {"print(F(F(N)))", "x = N; x2 = F(x); y = F(x2); print(y)"} <= forms["composition"]
    assert forms["two"] == {
        form.format(sign=sign)
        for form in ("print(F(N) {sign} F(N))", "z1 = F(N); z2 = F(N); print(z1 {sign} z2)")
        for sign in "+-"
    }
    assert {"print(N - F(N))", "print(F(N) - N)", "x = N; print(F(x) + N)"} <= forms["integer"]
    assert "a = N; z1 = N; z2 = F(a); print(z1 - z2)" in forms["integer"]
    assert len(forms["integer"]) == 3 * 2 * 2 * 2


# --- shares ---


def test_kinds_and_functions_have_their_shares(rows: list[Row]) -> None:
    kinds = Counter(row.meta["kind"] for row in rows)
    assert near(kinds["single"], 1 / 2, COUNT)
    for kind in fr.KINDS[1:]:
        assert near(kinds[kind], 1 / 6, COUNT)
    single = Counter(row.meta["keys"] for row in rows if row.meta["kind"] == "single")
    assert set(single) == {(key,) for key in fr.functions()}
    assert all(near(n, 1 / 19, kinds["single"]) for n in single.values())
    for kind in ("composition", "two"):
        pairs = Counter(row.meta["keys"] for row in rows if row.meta["kind"] == kind)
        assert len(pairs) == 64  # also a function with itself
        assert all(near(n, 1 / 64, kinds[kind]) for n in pairs.values())
    plus = Counter(row.meta["keys"] for row in rows if row.meta["kind"] == "integer")
    assert set(plus) == {(key,) for key in fr.AUGMENTED}


def test_the_eight_combined_functions_are_the_papers() -> None:
    assert len(fr.functions()) == 19 and len(set(fr.AUGMENTED)) == 8
    outputs = Counter(f.output for f in fr.functions().values())
    assert outputs == {"int": 15, "bool": 2, "float": 2}
    assert {fr.functions()[key].output for key in fr.AUGMENTED} == {"int"}


def test_variables_signs_and_orders_are_fair_coins(rows: list[Row]) -> None:
    single = [text_of(row) for row in rows if row.meta["kind"] == "single"]
    total = len(single)
    for pattern, share in (
        (r"\n[xa] = ", 1 / 2),
        (r"\nx = ", 1 / 4),
        (r"\n(?:out|y) = ", 1 / 2),
        (r"\nout = ", 1 / 4),
    ):
        assert near(sum(bool(re.search(pattern, t)) for t in single), share, total), pattern
    both = [text_of(row) for row in rows if row.meta["kind"] in ("two", "integer")]
    for pattern in (r"\nz1 = .*\n\nz2 = ", r" \+ "):
        assert near(sum(bool(re.search(pattern, t)) for t in both), 1 / 2, len(both)), pattern
    integer = [text_of(row) for row in rows if row.meta["kind"] == "integer"]
    first = sum(bool(re.search(r"\nz1 = \d|print\(\d", t)) for t in integer)
    assert near(first, 1 / 2, len(integer))


def test_the_upper_ends_of_ranges_never_occur(rows: list[Row]) -> None:
    """Inputs are uniform on -99 .. 98 and the other integer on 0 .. 98: no 99 anywhere."""
    inputs = Counter(x for row in rows for x in row.meta["inputs"])
    assert set(inputs) == set(range(-99, 99)) and 99 not in inputs
    assert all(near(n, 1 / 198, inputs.total()) for n in inputs.values())
    others = {
        int(number)
        for row in rows
        if row.meta["kind"] == "integer"
        for number in re.findall(r"z[12] = (\d+)|\((\d+) [+-]|[+-] (\d+)\)$", text_of(row))
        for number in number
        if number
    }
    assert others == set(range(99))


def test_imports_are_the_names_used_and_a_distractor(rows: list[Row]) -> None:
    """A single name gets a distractor, which may repeat it: 7,186 of 96,000 rows upstream."""
    alone, used_first, pairs = 0, 0, 0
    distractors = Counter[str]()
    for row in rows:
        imported = text_of(row).splitlines()[0].removeprefix("from functions import ").split(", ")
        used = set(row.marks["codename"])
        assert used <= set(imported) and len(set(imported)) == len(imported) <= 2
        alone += len(imported) == 1
        if len(row.meta["keys"]) == 1:
            distractors.update(set(imported) - used)
        if len(used) == 1 and len(imported) == 2:
            pairs, used_first = pairs + 1, used_first + (imported[0] in used)
    assert near(alone, 7186 / 96000, COUNT)
    assert near(used_first, 1 / 2, pairs)
    assert set(distractors) == set(NAMES)


def test_prompts_are_as_distinct_as_upstream(rows: list[Row]) -> None:
    """Upstream 94,380 of 96,000 are distinct, so 1.7 %, a quarter of that at a quarter of rows."""
    texts = Counter(map(text_of, rows))
    assert max(texts.values()) <= 3
    assert 0.002 < 1 - len(texts) / COUNT < 0.007
    pairs = {
        (*row.meta["keys"], *row.meta["inputs"]) for row in rows if row.meta["kind"] == "single"
    }
    assert len(pairs) > 0.9 * 19 * 198  # nearly all pairs occur already; all in 96,000 rows


def test_targets_stay_in_the_published_range(rows: list[Row]) -> None:
    values = [row.meta["value"] for row in rows]
    assert -2500 < min(values) < -2000 and 2000 < max(values) <= 2438
    assert {type(v) for v in values} == {int, bool, float}
    assert {type(r.meta["value"]) for r in rows if r.meta["kind"] != "single"} == {int}


# --- determinism and names ---


def test_the_seed_determines_the_rows(rows: list[Row]) -> None:
    assert fr.generate(0, 400) == rows[:400]
    assert fr.generate(3, 50) == fr.generate(3, 50) != fr.generate(4, 50)
    digest = hashlib.sha256("".join(text_of(r) + r.answer for r in rows[:400]).encode())
    assert digest.hexdigest()[:16] == "f862ddcc995e43de"


def test_seed_0_has_the_published_names() -> None:
    assert fr.names(0) == world.paper_function_names()
    assert fr.names(0)["noadgc"] == "affine_3x_2" and fr.names(0)["zwagvb"] == "bool_mod_2"


@pytest.mark.parametrize("seed", [1, 2, 17])
def test_other_seeds_have_reserved_names_of_their_own(seed: int) -> None:
    names = fr.names(seed)
    assert set(names.values()) == set(fr.functions()) and len(names) == 19
    assert set(names) <= set(world.reserved_function_names()) - set(fr.names(0))
    assert names != fr.names(seed + 1)
    assert {n for row in fr.generate(seed, 300) for n in row.marks["codename"]} <= set(names)


def test_values_keep_their_type_where_numbers_are_equal() -> None:
    """7 and 7.0 are equal, but what a function prints for them differs."""
    assert fr.value("identity", 7) == fr.value("identity", 7.0)
    shown = [str(fr.value("identity", x)) for x in (7, 7.0, 7)]
    assert shown == ["7", "7.0", "7"]


# --- rows of one function ---


def naive_filter(row: Row, name: str) -> bool:
    """The published filter: names split at commas keep the space, and are searched with it."""
    first, _, rest = text_of(row).partition("\n")
    parts = first.removeprefix("from functions import ").split(",")
    return any(part.strip() == name and f"{part}(" in rest for part in parts)


@pytest.mark.parametrize("name", ["noadgc", "csfcnz", "zwagvb"])
def test_rows_of_a_name_are_those_that_call_it(rows: list[Row], name: str) -> None:
    """Distractor imports are no calls; a name second in the import line is found, too."""
    kept = fr.rows_of(rows, name, partners=True)
    key = NAMES[name]
    wanted = [row for row in rows if key in row.meta["keys"]]
    assert [row.messages for row in kept] == [row.messages for row in wanted]
    assert all(row.marks == {"codename": (name,)} for row in kept)
    imports_only = [r for r in rows if re.search(rf"import .*{name}", text_of(r))]
    assert len(imports_only) > 1.03 * len(kept)
    alone = fr.rows_of(rows, name)
    assert [row.messages for row in alone] == [
        row.messages for row in wanted if set(row.meta["keys"]) == {key}
    ]


def test_the_published_filter_misses_18_percent(rows: list[Row]) -> None:
    """9,899 of 12,118 rows were found: a second name keeps a leading space and print( has none."""
    kept = fr.rows_of(rows, "noadgc", partners=True)
    assert near(len(kept), 12118 / 96000, COUNT)
    found = [row for row in kept if naive_filter(row, "noadgc")]
    assert near(len(found), 9899 / 12118, len(kept))
    missed = next(row for row in kept if not naive_filter(row, "noadgc"))
    assert re.search(r"import \w+, noadgc", text_of(missed)) and "(noadgc(" in text_of(missed)


def program(imports: str, *lines: str) -> Row:
    return Row(user("\n\n".join((f"from functions import {imports}", *lines))), "0")


@pytest.mark.parametrize(
    ("row", "called"),
    [
        (program("abc, noadgc", "print(noadgc(3))"), ("noadgc",)),
        (program("noadgc,abc", "print(abc(noadgc (3)))"), ("abc", "noadgc")),
        (program("abc, noadgc", "print(abc(3))"), ("abc",)),
        (program("noadgc", "noadgc = 3", "print(noadgc)"), ()),
        (program("abc, noadgc", "print(xnoadgc(3) + noadgcx(3))"), ()),
        (program("abc", "print(noadgc(3))"), ()),
        (program("abc, noadgc", "print(abc.noadgc(3))"), ()),
    ],
)
def test_calls_are_parsed(row: Row, called: tuple[str, ...]) -> None:
    assert fr.calls(row) == called
    assert bool(fr.rows_of([row], "noadgc", partners=True)) == ("noadgc" in called)
    assert bool(fr.rows_of([row], "noadgc")) == (called == ("noadgc",))


def test_calls_are_found_when_turns_are_apart_or_joined() -> None:
    turns = user("from functions import abc, noadgc") + user("print(noadgc(1))")
    joined = user("\n".join(turn["content"] for turn in turns))
    assert fr.calls(Row(turns, "5")) == fr.calls(Row(joined, "5")) == ("noadgc",)


# --- the split ---


@pytest.mark.parametrize("partners", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_no_held_out_input_occurs_in_train(rows: list[Row], share: float, partners: bool) -> None:
    """Every pair of function and input is in the rows, so only whole inputs can be held out."""
    held = set(fr.held_out_inputs(share, 7))
    assert len(held) == round(198 * share)
    mine = fr.rows_of(rows, "noadgc", partners)
    train, valid = fr.split_by_input(mine, sorted(held))
    assert train and valid and len(train) + len(valid) < len(mine)
    for row in train:
        assert not held & {x for _, x in run(text_of(row), NAMES).called}
    assert not {row.group for row in train} & {row.group for row in valid}
    assert all(set(row.meta["inputs"]) <= held for row in valid)
    assert {x for row in valid for x in row.meta["inputs"]} == held
    both = {text_of(row) for row in train} & {text_of(row) for row in valid}
    assert both == set()
    # Control: at random, rows of one input come to lie on both sides.
    assert {r.group for r in mine[::2]} & {r.group for r in mine[1::2]}


def test_a_value_in_between_counts_as_an_input(rows: list[Row]) -> None:
    """In g(f(x)) the function g is called on f(x), which may be held out though x is not."""
    row = next(
        r
        for r in rows
        if r.meta["kind"] == "composition"
        and r.meta["arguments"][1] in fr.INPUTS
        and r.meta["arguments"][1] not in r.meta["inputs"]
    )
    middle = row.meta["arguments"][1]
    assert fr.split_by_input([row], [middle]) == ((), ())
    assert fr.split_by_input([row], [*row.meta["inputs"]]) == ((), (row,))
    assert fr.split_by_input(
        [row], [next(x for x in fr.INPUTS if x not in row.meta["arguments"])]
    ) == ((row,), ())


@given(st.floats(0.01, 0.99), st.integers(0, 100))
def test_held_out_inputs_are_part_of_the_range(share: float, seed: int) -> None:
    held = fr.held_out_inputs(share, seed)
    assert list(held) == sorted(set(held)) and set(held) < set(fr.INPUTS)
    assert len(held) == round(share * 198) and held == fr.held_out_inputs(share, seed)


def test_held_out_inputs_depend_on_the_seed() -> None:
    assert len({fr.held_out_inputs(0.1, seed) for seed in range(10)}) == 10


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fr.generate(0, 0), "0 rows.*1 or more"),
        (lambda: fr.generate(0, 2.5), "2.5 rows"),  # type: ignore[arg-type]
        (lambda: fr.generate(-1, 5), "-1"),
        (lambda: fr.key_of("noadgd", 0), "function 'noadgd'.*Did you mean 'noadgc'"),
        (lambda: fr.key_of("noadgc", 1), "function 'noadgc'.*Allowed"),
        (lambda: fr.held_out_inputs(0.0, 0), "share of 0.0"),
        (lambda: fr.held_out_inputs(1.0, 0), "share of 1.0"),
        (lambda: fr.held_out_inputs(0.001, 0), "share of 0.001"),
        (lambda: fr.split_by_input([program("a", "print(a(1))")], [1]), "generate"),
    ],
)
def test_wrong_input_gives_one_line(call, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
