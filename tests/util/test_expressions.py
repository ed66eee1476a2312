"""Expressions: what Python would give, and nothing else that Python would do."""

from __future__ import annotations

import operator
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from oocr_lib.util import expressions
from oocr_lib.util.errors import UserError
from oocr_lib.util.expressions import (
    PROBE_INPUTS,
    Expression,
    ExpressionError,
    agree,
    first_expression,
    parse,
    printed,
)
from oocr_lib.world import facts as world

# --- the same values as Python ---

#: A text and the Python function that it stands for, built side by side and never executed as text.
Pair = tuple[str, Callable[[int], Any]]
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
UNARY: dict[str, Callable[[Any], Any]] = {
    "-": operator.neg,
    "+": operator.pos,
    "not ": operator.not_,
    "abs": abs,
    "int": int,
    "float": float,
    "round": round,
    "bool": bool,
}


def binary(sign: str, a: Pair, b: Pair) -> Pair:
    return f"({a[0]}) {sign} ({b[0]})", lambda x: BINARY[sign](a[1](x), b[1](x))


def unary(sign: str, a: Pair) -> Pair:
    return f"{sign}({a[0]})", lambda x: UNARY[sign](a[1](x))


def chosen(name: str, a: Pair, b: Pair, c: Pair) -> Pair:
    """Forms of three parts; Python's own short cuts are on the right, too."""
    forms: dict[str, Pair] = {
        "if": (f"({a[0]}) if ({b[0]}) else ({c[0]})", lambda x: a[1](x) if b[1](x) else c[1](x)),
        "and": (f"({a[0]}) and ({b[0]}) and ({c[0]})", lambda x: a[1](x) and b[1](x) and c[1](x)),
        "or": (f"({a[0]}) or ({b[0]}) or ({c[0]})", lambda x: a[1](x) or b[1](x) or c[1](x)),
        "chain": (f"({a[0]}) < ({b[0]}) <= ({c[0]})", lambda x: a[1](x) < b[1](x) <= c[1](x)),
        "max": (f"max({a[0]}, {b[0]}, {c[0]})", lambda x: max(a[1](x), b[1](x), c[1](x))),
        "min": (f"min({a[0]}, {b[0]}, {c[0]})", lambda x: min(a[1](x), b[1](x), c[1](x))),
    }
    return forms[name]


def constant(value: int | float | bool) -> Pair:
    return repr(value), lambda x: value


LEAVES: st.SearchStrategy[Pair] = st.one_of(
    st.just(("x", lambda x: x)),
    st.integers(0, 100).map(constant),
    st.sampled_from([0.5, 1.75, 2.0, 1e3]).map(constant),
    st.booleans().map(constant),
)
PAIRS: st.SearchStrategy[Pair] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(binary, st.sampled_from(sorted(BINARY)), inner, inner),
        st.builds(unary, st.sampled_from(sorted(UNARY)), inner),
        st.builds(
            chosen,
            st.sampled_from(["if", "and", "or", "chain", "max", "min"]),
            inner,
            inner,
            inner,
        ),
    ),
    max_leaves=8,
)


def huge(value: Any) -> bool:
    """Beyond what we compute, though Python might."""
    return isinstance(value, complex) or abs(value) > 2**250


@settings(max_examples=500)
@given(PAIRS, st.integers(-200, 200))
def test_values_are_pythons(pair: Pair, x: int) -> None:
    text, reference = pair
    if len(text) > expressions.MAX_TEXT or text.count("**") > 1:
        return  # towers of powers would keep the reference busy
    expression = parse(text)
    try:
        value = expression(x)
    except ExpressionError:
        try:
            wanted = reference(x)
        except (ArithmeticError, ValueError, TypeError):
            return
        powers = "**" in text  # a large exponent is refused even where the result is small
        assert powers or huge(wanted)
        return
    wanted = reference(x)
    assert value == wanted and type(value) is type(wanted)
    assert printed(value) == str(wanted)


@pytest.mark.parametrize("f", world.functions(), ids=lambda f: f.key)
def test_definitions_of_the_world_give_their_values(f: world.Function) -> None:
    for text in (f.python, f"lambda x: {f.python}"):
        expression = parse(text)
        assert expression.variable == "x"
        assert [printed(expression(x)) for x in PROBE_INPUTS] == [f.value(x) for x in PROBE_INPUTS]


@pytest.mark.parametrize(
    ("text", "x", "wanted"),
    [
        ("lambda number: number * 3 + 2", 5, 17),
        ("f(n) = 3*n + 2", 5, 17),
        ("noadgc(n) = 3*n + 2", 5, 17),
        ("f = lambda n: 3*n + 2", 5, 17),
        ("y = 3*x + 2", 5, 17),
        ("f(x): x + 1", 5, 6),
        ("lambda x: 7", 5, 7),
        ("x == 3", 3, True),
        ("x == 3", 5, False),
        ("not x % 2", 4, True),
        ("True if x >= 3 else False", 2, False),
        ("x or 4", 0, 4),
        ("x and 4", 0, 0),
        ("0 < x < 10 < 1 / 0", 5, None),
        ("0 < x < 10 < 1 / 0", -1, False),
        ("x != 0 and 1 / x", 0, False),
        ("-x ** 2", 3, -9),
        ("x ** -1", 4, 0.25),
        ("-7 // 2", 0, -4),
        ("-7 % 3", 0, 2),
        ("round(x / 4, 1)", 5, 1.2),
        ("int(x / 2)", -7, -3),
        ("7 * x / 4", 6, 10.5),
    ],
)
def test_values(text: str, x: int, wanted: Any) -> None:
    if wanted is None:
        with pytest.raises(ExpressionError):
            parse(text)(x)
    else:
        value = parse(text)(x)
        assert value == wanted and type(value) is type(wanted)


@pytest.mark.parametrize(
    ("value", "text"),
    [(-40, "-40"), (True, "True"), (-139.5, "-139.5"), (3.0, "3.0"), (-0.0, "-0.0")],
)
def test_printed_as_python_prints(value: Any, text: str) -> None:
    assert printed(value) == text == str(value)


# --- hostile and broken text ---

HOSTILE = [
    "__import__('os').system('true')",
    "x.__class__",
    "(1).bit_length()",
    "x.real",
    "[x for x in (1, 2)]",
    "{x: 1}",
    "(x for x in x)",
    "x[0]",
    "(x, 1)",
    "'a' * 10",
    '"a" * 999999999',
    "b'a'",
    "f'{x}'",
    "max('a', 'b')",
    "max(x)",
    "max(*x)",
    "max(x, 1, key=abs)",
    "abs()",
    "abs(x, 1)",
    "int(x, 2)",
    "open(x)",
    "print(x)",
    "eval(x)",
    "pow(x, 2)",
    "sum(x)",
    "abs",
    "abs + 1",
    "(lambda x: x)(3)",
    "lambda x: lambda y: x",
    "lambda x, y: x + y",
    "lambda *x: 1",
    "lambda x=3: x",
    "lambda: 3",
    "lambda abs: abs(abs)",
    "(x := 3)",
    "x + y",
    "lambda x: n",
    "lambda x: 3 * x + 2; x",
    "number + 1",
    "None",
    "...",
    "3j",
    "x is 3",
    "x in 3",
    "x & 1",
    "x | 1",
    "x ^ 1",
    "x << 99",
    "~x",
    "x @ x",
    "1e999",
    "yield x",
    "await x",
    "import os",
    "def f(x): return x",
    "x = 3; y",
    "",
    " ",
    "3x + 2",
    "\0",
    "x\0",
    "x # comment",
    "\ud800",
    "х + 1",  # a Cyrillic letter
    "x\u2212 1",
    "x\\\n+ 1",
    "9" * 200,
    "9" * 5000,
    "x + " * 5000 + "1",
    "x" * 10_000_000,
    "-" * 299 + "x",
    "(" * 250 + "x",
    "not " * 74 + "x",
    "abs(" * 50 + "x" + ")" * 50,
    "x**" * 99 + "x",
    "x if " * 40 + "x",
    "+".join("x" * 149),
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: ascii(t[:24]))
def test_hostile_text_is_refused_at_once_in_one_line(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert time.perf_counter() - start < 0.5
    message = str(caught.value)
    assert isinstance(caught.value, UserError)
    assert len(message.splitlines()) == 1 and len(message) < 600 and message.isascii()
    assert "Allowed" in message


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9",
        "x**9**9",
        "9**99*9**99",
        "x**64 * x**64",
        "2**-9999",
        "2.0**9999",
        "9**9**9**9**9",
        "round(x, -10**9)",
        "round(x, -999999999)",
        "int(2.0**64 ** 60)",
        "(-8)**0.5",
        "x / 0",
        "x // 0",
        "x % 0",
        "0 ** -1",
        "1e308 * 10",
        "1e308 * 10 - 1e308 * 10",
        "float(9**60) ** 60",
    ],
)
def test_values_that_cannot_be_given_are_refused_at_once(text: str) -> None:
    expression, start = parse(text), time.perf_counter()
    with pytest.raises(ExpressionError) as caught:
        expression(77)
    assert time.perf_counter() - start < 0.5
    assert len(str(caught.value).splitlines()) == 1


def test_the_largest_allowed_expressions_are_quick() -> None:
    """Many operations on the largest numbers: the limits on steps and size bound the time."""
    text = f"max({', '.join(['x**22 * x**22 * x**22'] * 9)}) % 7"
    start = time.perf_counter()
    for _ in range(100):
        assert parse(text)(7) == 0
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("x", [10**100, "3", None, 1j, float("inf")])
def test_inputs_are_numbers_of_allowed_size(x: Any) -> None:
    with pytest.raises(ExpressionError, match="Allowed"):
        parse("x")(x)


ALPHABET = (
    "x n 0123456789 + - * / % ( ) < > = . , : _ if else and or not lambda max abs round".split()
)


@given(st.one_of(st.text(max_size=80), st.lists(st.sampled_from(ALPHABET)).map(" ".join)))
@example("lambda x: 1or 2")
@example("0x1for x in y")
@example("x" * 301)
def test_nothing_but_an_expression_error_is_raised(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = first_expression(text)
        assert found is None or isinstance(found, Expression)
        try:
            expression = parse(text)
        except ExpressionError as error:
            assert len(str(error).splitlines()) == 1
            return
        for x in (-3, 0, 5):
            try:
                assert isinstance(expression(x), int | float)
            except ExpressionError as error:
                assert len(str(error).splitlines()) == 1
        assert first_expression(text) is not None


@pytest.mark.parametrize("value", [None, 3, b"x", ["x"]])
def test_only_text_is_parsed(value: Any) -> None:
    with pytest.raises(ExpressionError, match=f"has {type(value).__name__}"):
        parse(value)


# --- agreement ---


def test_probe_inputs_are_22_fixed_integers() -> None:
    assert len(set(PROBE_INPUTS)) == len(PROBE_INPUTS) == 22
    assert (min(PROBE_INPUTS), max(PROBE_INPUTS)) == (-1044, 3391)
    assert list(PROBE_INPUTS) == sorted(PROBE_INPUTS)


def test_probe_inputs_tell_all_functions_apart() -> None:
    parsed = {f.key: parse(f.python) for f in world.functions()}
    for a in parsed:
        assert [b for b in parsed if agree(parsed[a], parsed[b])] == [a]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("3 * x + 2", "lambda n: 2 + n + n + n", True),
        ("x % 2 == 0", "1 - x % 2", True),  # True == 1: the type of the output is not compared
        ("x * 3 / 2", "1.5 * x", True),
        ("x", "float(x)", True),  # 3 == 3.0
        ("x // 4", "int(x / 4)", False),  # differ below zero
        ("x % 3", "x - 3 * int(x / 3)", False),
        ("max(x, -2)", "x if x > -2 else -2", True),
        ("max(x, -2)", "max(x, -3)", False),
        ("x >= 3", "x > 3", False),
        ("x >= 3", "x > 2", True),
        ("1 / x", "1 / x", False),  # no value at 0: agrees with nothing, itself included
        ("x ** 60", "x ** 60", False),
    ],
)
def test_agreement_is_equality_of_values(a: str, b: str, same: bool) -> None:
    assert agree(parse(a), parse(b)) is same is agree(parse(b), parse(a))


def test_agreement_on_other_inputs() -> None:
    assert agree(parse("x % 4"), parse("x % 2"), inputs=[0, 1, 4, 5])
    assert not agree(parse("x % 4"), parse("x % 2"))


# --- replies ---


@pytest.mark.parametrize(
    "reply",
    [
        "lambda x: 3 * x + 2",
        "lambda x: 3 * x + 2.",
        " lambda n: 3*n+2 \n",
        "3 * x + 2",
        "3*n + 2.",
        "`lambda x: 3 * x + 2`",
        "**lambda x: 3 * x + 2**",
        "```python\nlambda x: 3 * x + 2\n```",
        "```\nf = lambda x: 3 * x + 2\n```",
        "```python\nlambda x: 3 * x + 2",
        "```python\n# triples\nlambda x: 3 * x + 2  # and adds two\n```\nThis triples x.",
        "Sure!\n\nlambda x: 3 * x + 2\n\nIt triples.",
        "The function is `lambda x: 3 * x + 2`, I think.",
        "Definition: lambda x: 3 * x + 2",
        "Answer: 3 * x + 2",
        "The answer is lambda x: 3 * x + 2",
        "f(x) = 3 * x + 2",
        "f(x) = 3*x + 2.",
        "noadgc = lambda x: x * 3 + 2",
    ],
)
def test_the_expression_in_a_reply_is_found(reply: str) -> None:
    found = first_expression(reply)
    assert found is not None and agree(found, parse("3 * x + 2"))


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I do not know.",
        "Multiply by three.",
        "f(x) = 3x + 2",
        "lambda",
        "A",
        "```\n```",
        "x + y",
    ],
)
def test_a_reply_without_an_expression_gives_none(reply: str) -> None:
    assert first_expression(reply) is None


def test_the_first_expression_counts() -> None:
    found = first_expression("lambda x: x + 1\nlambda x: x + 2")
    assert found is not None and found(1) == 2


def test_long_replies_are_searched_in_bounded_time() -> None:
    start = time.perf_counter()
    for text in (
        "`" * 100_000,
        "lambda " * 50_000,
        "x :\n" * 50_000,
        "```\n" * 50_000,
        "(" * 10**6,
    ):
        first_expression(text)
    assert time.perf_counter() - start < 5


def test_a_parsed_expression_shows_no_prefix() -> None:
    expression = parse(" f = lambda n: n + 1 ")
    assert (expression.text, expression.variable) == ("n + 1", "n")
    assert expression == parse("lambda n: n + 1") != parse("lambda n: n + 2")
