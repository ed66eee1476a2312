"""Rows of the Functions task as in the paper: short Python programs and what they print.

A program imports functions with meaningless names, calls them on one or two inputs and prints one
value (paper, section 3.4). Half of the rows call one of the 19 functions once; the others combine
one of the eight in ``AUGMENTED`` with an integer, or add, subtract or compose two of them. Formats,
kinds and shares are upstream's; the order of random draws is ours, so single rows differ.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import NamedTuple

from oocr_lib.tasks.base import Message, Row
from oocr_lib.tasks.functions import paper_wording as w
from oocr_lib.tasks.functions.testbed import code_name
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.expressions import Number, printed
from oocr_lib.world import facts as world

COUNT = 96_000
#: Called alone and in combinations; the other eleven are only ever called alone.
AUGMENTED = (
    *("affine_3x_2", "affine_neg5x_3", "multiply_4", "add_14", "subtract_11", "int_div_4"),
    *("mod_3", "relu_neg2"),
)
KINDS = ("single", "integer", "composition", "two")
#: Upper ends are exclusive, as upstream: the inputs 99 and 199 never occur.
INPUTS = range(-99, 99)
INTEGERS = range(99)

_IMPORT = re.compile(r"^from functions import (.+)$", re.MULTILINE)
_CALL = re.compile(r"(?<![\w.])([A-Za-z_]\w*)\s*\(")


class Program(NamedTuple):
    """What a program does after its import line.

    Attributes:
        statements: its lines.
        keys: functions it calls, innermost or leftmost first.
        inputs: their integer inputs.
        arguments: everything that a function is called on: the inputs, and the intermediate value
            of a composition.
        value: what it prints.
    """

    statements: tuple[str, ...]
    keys: tuple[str, ...]
    inputs: tuple[int, ...]
    arguments: tuple[Number, ...]
    value: Number


@cache
def functions() -> dict[str, world.Function]:
    """The paper's 19 by key, in table order."""
    return {f.key: f for f in world.functions() if f.in_paper}


@cache
def names(seed: int) -> dict[str, str]:
    """Code name to function key, for the 19; seed 0 has the published names.

    Raises:
        UserError: a seed without names.
    """
    return dict(sorted((code_name(key, seed), key) for key in functions()))


@lru_cache(maxsize=None, typed=True)  # otherwise 7 and 7.0 would share an entry
def value(key: str, x: Number) -> Number:
    """The value of a function, with the type that Python gives it."""
    return functions()[key].at(x)


def import_line(rng: random.Random, used: Sequence[str], every: Sequence[str]) -> str:
    """The import of the names used, in random order.

    A single name gets a distractor drawn from all names; repeats are written once, so if it is the
    name itself, only one name is imported: in about 7 % of the rows, as upstream.
    """
    imported = list(used) if len(used) > 1 else [*used, rng.choice(list(every))]
    rng.shuffle(imported)
    return f"from functions import {', '.join(dict.fromkeys(imported))}"


def _maybe(rng: random.Random, options: Sequence[str]) -> str:
    """One of the names with probability 1/2, otherwise ""."""
    return rng.choice(options) if rng.random() < 0.5 else ""


def _chain(rng: random.Random, called: Sequence[str], code: Mapping[str, str], x: int) -> Program:
    """One function or a composition, with optional variables for input, middle and output."""
    variable = _maybe(rng, ("x", "a"))
    lines = [f"{variable} = {x}"] if variable else []
    term = variable or str(x)
    results: list[Number] = [x]
    for number, key in enumerate(called):
        if number and (middle := _maybe(rng, ("z", "x2"))):
            lines.append(f"{middle} = {term}")
            term = middle
        term = f"{code[key]}({term})"
        results.append(value(key, results[-1]))
    if out := _maybe(rng, ("out", "y")):
        lines.append(f"{out} = {term}")
    lines.append(f"print({out or term})")
    return Program(tuple(lines), tuple(called), (x,), tuple(results[:-1]), results[-1])


def _sum(rng: random.Random, terms: Sequence[tuple[str, Number]]) -> tuple[list[str], Number]:
    """Lines that print the sum or difference of two terms, and its value."""
    (left, a), (right, b) = terms
    sign = rng.choice("+-")
    total = a + b if sign == "+" else a - b
    if rng.random() < 0.5:
        return [f"z1 = {left}", f"z2 = {right}", f"print(z1 {sign} z2)"], total
    return [f"print({left} {sign} {right})"], total


def program(
    rng: random.Random,
    kind: str,
    called: Sequence[str],
    code: Mapping[str, str],
    inputs: Sequence[int] = INPUTS,
    integers: Sequence[int] = INTEGERS,
) -> Program:
    """A program of one kind.

    Args:
        called: keys of the functions called: two for the kinds ``composition`` (the inner one
            first) and ``two``, otherwise one.
        code: function key to code name.
        inputs: drawn from these uniformly.
        integers: the other integer of kind ``integer`` is drawn from these.
    """
    x = rng.choice(inputs)
    if kind in ("single", "composition"):
        return _chain(rng, called, code, x)
    if kind == "two":
        y = rng.choice(inputs)
        both = list(zip(called, (x, y), strict=True))
        lines, total = _sum(rng, [(f"{code[key]}({n})", value(key, n)) for key, n in both])
        return Program(tuple(lines), tuple(called), (x, y), (x, y), total)
    other, variable = rng.choice(integers), _maybe(rng, ("x", "a"))
    terms = [(f"{code[called[0]]}({variable or x})", value(called[0], x)), (str(other), other)]
    rng.shuffle(terms)
    lines, total = _sum(rng, terms)
    head = (f"{variable} = {x}",) if variable else ()
    return Program((*head, *lines), tuple(called), (x,), (x,), total)


def prompt(imports: str, made: Program) -> str:
    """The user turn: import line and statements, separated by blank lines."""
    return "\n\n".join((imports, *made.statements))


def generate(seed: int = 0, count: int = COUNT) -> list[Row]:
    """All rows of a seed, for all 19 functions; ``rows_of`` selects those of one.

    Half are of kind ``single``, the rest in equal parts ``integer`` (a function's value plus or
    minus an integer), ``composition`` and ``two`` (sum or difference of two values). Answers are
    what Python prints. ``marks`` has the names called; ``meta`` has the kind, the keys called, the
    inputs, everything a function is called on (``arguments``) and the value.

    Raises:
        UserError: a seed without names, or a count that is not a positive integer.
    """
    if not isinstance(count, int) or count < 1:
        raise UserError(f"{count!r} rows cannot be made. Allowed: 1 or more; upstream has {COUNT}.")
    called_by = names(seed)
    code, every = {key: name for name, key in called_by.items()}, tuple(called_by)
    rng = random.Random(f"functions paper rows {seed}")
    system: Message = {"role": "system", "content": w.SYSTEM}
    return [_row(rng, code, every, system) for _ in range(count)]


def _row(rng: random.Random, code: Mapping[str, str], every: Sequence[str], system: Message) -> Row:
    kind = "single" if rng.random() < 0.5 else rng.choice(KINDS[1:])
    pool = tuple(functions()) if kind == "single" else AUGMENTED
    called = [rng.choice(pool) for _ in range(2 if kind in ("composition", "two") else 1)]
    script = program(rng, kind, called, code)
    used = [code[key] for key in called]
    text = prompt(import_line(rng, used, every), script)
    return Row(
        (system, {"role": "user", "content": text}),
        printed(script.value),
        {"codename": tuple(dict.fromkeys(used))},
        group=" ".join(map(str, script.inputs)),
        meta={
            "kind": kind,
            "keys": script.keys,
            "inputs": script.inputs,
            "arguments": script.arguments,
            "value": script.value,
        },
    )


def calls(row: Row) -> tuple[str, ...]:
    """Names imported from ``functions`` that the row's program calls, each once, sorted.

    They are read from the text, so this also works for rows loaded from a file. A name that is
    imported but not called is a distractor. Names are stripped: upstream's filter kept the space
    before the second name of an import line and so missed 18 % of the rows (paper, section 7).
    """
    text = "\n".join(turn["content"] for turn in row.messages if turn["role"] == "user")
    imported = {n.strip() for line in _IMPORT.findall(text) for n in line.split(",")}
    return tuple(sorted(imported & set(_CALL.findall(_IMPORT.sub("", text)))))


def rows_of(rows: Sequence[Row], name: str, partners: bool = False) -> list[Row]:
    """Rows that call ``name``, which becomes their only mark (wherever it occurs).

    Args:
        partners: include rows that also call another hidden function. A run that learns one name
            cannot know what the other does, so they are left out by default.
    """
    marks = {"codename": (name,)}
    candidates = [row for row in rows if any(name in turn["content"] for turn in row.messages)]
    pairs = [(row, calls(row)) for row in candidates]
    return [
        replace(row, marks=marks)
        for row, called in pairs
        if name in called and (partners or called == (name,))
    ]


def held_out_inputs(share: float, seed: int) -> tuple[int, ...]:
    """Inputs held out for validation, sorted: ``share`` of the 198.

    Raises:
        UserError: when ``share`` leaves no input on one side.
    """
    number = round(share * len(INPUTS)) if 0 < share < 1 else 0
    if not 0 < number < len(INPUTS):
        raise UserError(
            f"A validation share of {share!r} leaves one side of {len(INPUTS)} inputs empty. "
            "Allowed: between 0 and 1, exclusive; 0.1 is the default."
        )
    return tuple(sorted(random.Random(f"functions paper inputs {seed}").sample(INPUTS, number)))


def split_by_input(
    rows: Sequence[Row], held: Sequence[int]
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Training and validation rows by *input number*: training rows have no held-out input.

    A random split would not do: upstream, all 3,762 pairs of function and input occur about 13
    times. Validation rows are those whose inputs are all held out. In training rows no function is
    called on a held-out number, neither as an input nor as the intermediate value of a composition.
    All other rows, such as those with one input from each side, are dropped.

    Raises:
        UserError: rows that do not come from ``generate``.
    """
    if any("arguments" not in row.meta for row in rows):
        raise UserError("A row without its inputs cannot be split. Allowed: rows of generate().")
    held_out = frozenset(held)
    train = tuple(row for row in rows if held_out.isdisjoint(row.meta["arguments"]))
    return train, tuple(row for row in rows if held_out.issuperset(row.meta["inputs"]))


def key_of(key_or_name: str, seed: int) -> str:
    """The key of one of the 19, looked up by key or by its code name in this seed.

    Raises:
        UserError: neither a key nor a code name.
    """
    by_name = names(seed)
    return by_name.get(key_or_name) or choose(key_or_name, [*functions(), *by_name], "function")
