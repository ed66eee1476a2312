"""Expressions in one variable, as models write them, evaluated without running any code.

The text is parsed to a syntax tree, every node is checked against a short list, and an evaluator
of our own walks the tree; Python never executes it. Allowed are whole and decimal numbers, True
and False, one variable, ``+ - * / // % **``, comparisons (also chained), ``and or not``,
``a if b else c``, and calls of ``max min abs int float round bool``. An expression can neither read
anything else nor run long: without loops each node is visited at most once, so ``MAX_STEPS`` nodes
also limit the time, in the same way on every machine, and ``MAX_BITS`` bounds every number.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from oocr_lib.util.errors import UserError

Number: TypeAlias = int | float | bool

MAX_TEXT = 300  # characters
MAX_STEPS = 120  # nodes of the tree; each is evaluated at most once
MAX_DEPTH = 40
MAX_BITS = 256  # size of every whole number, given or computed
MAX_EXPONENT = 64
MAX_REPLY = 4000  # characters of a reply that are searched for an expression
#: Inputs at which two expressions are compared: 22 whole numbers, dense around zero, some far
#: outside the inputs of any task (from -1044 to 3391, as upstream).
PROBE_INPUTS = (
    *(-1044, -613, -202, -99, -38, -15, -7, -4, -3, -2, -1),
    *(0, 1, 2, 3, 4, 5, 14, 57, 98, 731, 3391),
)

_CHARACTERS = re.compile(r"[A-Za-z0-9_ \t\r\n.,:()<>=!+*/%-]*")
_LAMBDA = re.compile(r"lambda\s+([A-Za-z_]\w*)\s*:")
#: "f(x) =", "f =", "y =", "f(x):" before the expression; "==" is a comparison and stays.
_PREFIX = re.compile(r"[A-Za-z_]\w*\s*(?:\(\s*([A-Za-z_]\w*)\s*\)\s*(?:=(?!=)|:)|=(?!=))")
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_,
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
#: Function, fewest and most arguments. ``max(x)`` would want a sequence, hence two.
_CALLS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "max": (max, 2, MAX_STEPS), "min": (min, 2, MAX_STEPS), "abs": (abs, 1, 1),
    "int": (int, 1, 1), "float": (float, 1, 1), "round": (round, 1, 2), "bool": (bool, 1, 1),
}  # fmt: skip
_NODES = (
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call, ast.Constant),
    *(ast.Name, ast.Load, ast.And, ast.Or, *_BINARY, *_UNARY, *_COMPARE),
)
_ALLOWED = f"Allowed: numbers, one variable, arithmetic, logic, if else, {' '.join(_CALLS)}."


class ExpressionError(UserError):
    """Text that is not an allowed expression, or has no value at an input. One line."""


@dataclass(frozen=True)
class Expression:
    """A checked expression; call it with a whole number.

    Attributes:
        text: what was parsed, without "lambda x:" or "f(x) =".
        variable: name of its argument; "x" when it has none.
    """

    text: str
    variable: str
    tree: ast.expr = field(repr=False, compare=False)

    def __call__(self, x: Number) -> Number:
        """The value at ``x``, of the type and size that Python would give.

        Raises:
            ExpressionError: division by zero; a number too large, infinite or complex.
        """
        try:
            return _value(self.tree, _checked(x))
        except (ArithmeticError, TypeError, ValueError) as error:
            if isinstance(error, ExpressionError):
                raise
            raise _refused(self.text, f"has no value at {x!r} ({error})") from error


def parse(text: str) -> Expression:
    """The expression in ``text``, which may start with "lambda x:", "f(x) =" or "f =".

    Without such a start the variable is the one single lower-case letter that occurs.

    Raises:
        ExpressionError: too long, too deep, not an expression, or with a part not allowed.
    """
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        size = f"{len(text)} characters" if isinstance(text, str) else type(text).__name__
        raise ExpressionError(f"The expression has {size}. Allowed: text of at most {MAX_TEXT}.")
    if not _CHARACTERS.fullmatch(text):
        raise _refused(text, "has a character that no expression has")
    body, variable = text.strip(), ""
    if prefix := _PREFIX.match(body):
        body, variable = body[prefix.end() :].strip(), prefix[1] or ""
    if head := _LAMBDA.match(body):
        body, variable = body[head.end() :].strip(), head[1]
    tree = _tree(body)
    _check_shape(tree, body)
    return Expression(body, _variable(tree, body, variable), tree)


def agree(a: Expression, b: Expression, inputs: Sequence[int] = PROBE_INPUTS) -> bool:
    """Whether both give equal values on all ``inputs``.

    Equality is Python's ``==``, as upstream: True equals 1 and 3 equals 3.0, so the output type is
    not tested (``x % 2 == 0`` agrees with ``1 - x % 2``). Expressions that have no value at some
    input agree with nothing.
    """
    try:
        return all(a(x) == b(x) for x in inputs)
    except ExpressionError:
        return False


def first_expression(text: str) -> Expression | None:
    """The first expression in a model's reply, or None.

    Tried in turn: fenced code, spans in backticks, then lines; of each line first all of it, then
    the part from "lambda" or after a colon. A closing full stop, comments and quotes are removed,
    other words around an expression are not.
    """
    for candidate in _candidates(text[:MAX_REPLY]):
        try:
            return parse(candidate)
        except ExpressionError:
            continue
    return None


def printed(value: Number) -> str:
    """The value as Python prints it: "-40", "True", "-139.5"."""
    return str(value)


# --- parsing ---


def _refused(body: str, why: str, allowed: str = _ALLOWED) -> ExpressionError:
    return ExpressionError(f"The expression {_shown(body)} {why}. {allowed}")


def _shown(text: str, limit: int = 60) -> str:
    """A model's text for a message: one line, plain characters, not too long."""
    return ascii(text if len(text) <= limit else text[:limit] + "...")


def _tree(body: str) -> ast.expr:
    try:
        with warnings.catch_warnings():  # "1or 2" warns, which is of no use to the user
            warnings.simplefilter("ignore")
            return ast.parse(body, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refused(body, "cannot be parsed") from error


def _check_shape(tree: ast.expr, body: str) -> None:
    """Refuse nodes that are not allowed, too many or too deep; without recursion."""
    todo: list[tuple[ast.AST, int]] = [(tree, 1)]
    steps = 0
    while todo:
        node, depth = todo.pop()
        steps += isinstance(node, ast.expr)
        if depth > MAX_DEPTH or steps > MAX_STEPS:
            limits = f"Allowed: {MAX_STEPS} numbers and operations, nested {MAX_DEPTH} deep."
            raise _refused(body, "is too long or too deep", limits)
        children = ast.iter_child_nodes(node)
        if isinstance(node, ast.Constant):
            if type(node.value) not in (int, float, bool):
                raise _refused(body, f"holds a constant of type {type(node.value).__name__}")
            _checked(node.value)
        elif isinstance(node, ast.Call):
            _check_call(node, body)
            children = iter(node.args)
        elif not isinstance(node, _NODES):
            raise _refused(body, f"has a part that is not allowed ({type(node).__name__})")
        todo += [(child, depth + 1) for child in children]


def _check_call(node: ast.Call, body: str) -> None:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    _, fewest, most = _CALLS.get(name, (None, 1, 0))
    if node.keywords or not fewest <= len(node.args) <= most:
        raise _refused(body, "calls what is not allowed, or with a wrong number of arguments")


def _variable(tree: ast.expr, body: str, declared: str) -> str:
    """The variable's name; all other names in the tree must be functions that are called."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in called}
    names = sorted(used | ({declared} if declared else set()))
    if len(names) > 1 or any(
        n in _CALLS or not (declared or re.fullmatch("[a-z]", n)) for n in names
    ):
        limits = "Allowed: one, a single lower-case letter unless 'lambda name:' comes first."
        raise _refused(body, f"has the variables {', '.join(names)}", limits)
    return names[0] if names else "x"


def _candidates(text: str) -> Iterator[str]:
    """Parts of a reply that may be the expression, most explicit first, repeats included."""
    fenced = re.findall(r"```[A-Za-z0-9]*\n(.*?)(?:```|\Z)", text, re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", text)
    for part in (*fenced, *spans, text):
        for line in (part, *part.splitlines()):
            line = line.split("#")[0].strip().strip("`\"'$* ").removesuffix(".").strip("`\"' ")
            if not line:
                continue
            yield line
            if (at := line.find("lambda")) > 0:
                yield line[at:]
            elif ":" in line and at < 0:
                yield line.partition(":")[2].strip("`\"'* ")


# --- evaluation ---


def _value(node: ast.expr, x: Number) -> Number:
    """The value of a checked node; it is checked, too."""
    match node:
        case ast.Constant():
            return node.value  # type: ignore[return-value]  # checked by _check_shape
        case ast.Name():
            return x
        case ast.BinOp():
            left, right = _value(node.left, x), _value(node.right, x)
            if isinstance(node.op, ast.Pow):
                _check_power(left, right)
            return _checked(_BINARY[type(node.op)](left, right))
        case ast.UnaryOp():
            return _checked(_UNARY[type(node.op)](_value(node.operand, x)))
        case ast.BoolOp():
            return _either(node, x)
        case ast.Compare():
            return _chain(node, x)
        case ast.IfExp():
            return _value(node.body if _value(node.test, x) else node.orelse, x)
        case ast.Call(func=ast.Name(id=name)):
            values = [_value(argument, x) for argument in node.args]
            if name == "round":  # rounding to -10**9 digits would compute that power of ten
                _check_power(10, values[-1] if len(values) == 2 else 0)
            return _checked(_CALLS[name][0](*values))
    raise AssertionError(f"unchecked node {type(node).__name__}")


def _either(node: ast.BoolOp, x: Number) -> Number:
    """``and`` and ``or`` give the operand that decides, as in Python."""
    for operand in node.values:
        value = _value(operand, x)
        if bool(value) is isinstance(node.op, ast.Or):
            break
    return value


def _chain(node: ast.Compare, x: Number) -> bool:
    """``a < b < c``; later parts are not evaluated once one is false."""
    left = _value(node.left, x)
    for operation, operand in zip(node.ops, node.comparators, strict=True):
        right = _value(operand, x)
        if not _COMPARE[type(operation)](left, right):
            return False
        left = right
    return True


def _check_power(base: Number, exponent: Number) -> None:
    """Refuse a power before it is computed, since computing it could take for ever."""
    bits = (base.bit_length() - 1) * exponent if isinstance(base, int) else 0
    if abs(exponent) > MAX_EXPONENT or bits > MAX_BITS:
        limits = f"exponents up to {MAX_EXPONENT}, numbers up to {MAX_BITS} bits"
        raise ExpressionError(f"The power {base} ** {exponent} is too large. Allowed: {limits}.")


def _checked(value: Any) -> Number:
    """``value`` if it is a real number of allowed size."""
    if isinstance(value, int) and value.bit_length() <= MAX_BITS:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ExpressionError(
        f"A value of type {type(value).__name__} is too large, not finite or not a real number. "
        f"Allowed: whole numbers up to {MAX_BITS} bits, finite decimal numbers."
    )
