"""A second reading of the programs that Functions rows hold, for tests only.

It shares nothing with the library but the table of functions, so that an answer agrees with it only
if both are right.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from oocr_lib.world import facts as world

FUNCTIONS = {f.key: f for f in world.functions()}


@dataclass
class Run:
    """What a program printed, which names it imported, and every call: key and argument."""

    output: str = ""
    imported: list[str] = field(default_factory=list)
    called: list[tuple[str, Any]] = field(default_factory=list)
    statements: int = 0


def run(text: str, names: Mapping[str, str]) -> Run:
    """Run a program; ``names`` maps code names to function keys."""
    first, *blocks = text.split("\n\n")
    done, variables = Run(), dict[str, Any]()
    done.imported = re.fullmatch(r"from functions import (\w+(?:, \w+)*)", first)[1].split(", ")  # type: ignore[index]
    done.statements = len(blocks)

    def value(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=constant):
                return constant
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -value(inner)
            case ast.Name(id=name):
                return variables[name]
            case ast.BinOp(left=left, op=sign, right=right):
                a, b = value(left), value(right)
                return a + b if isinstance(sign, ast.Add) else a - b
            case ast.Call(func=ast.Name(id=name), args=[argument]):
                assert name in done.imported
                given = value(argument)
                done.called.append((names[name], given))
                return ast.literal_eval(FUNCTIONS[names[name]].value(given))
        raise AssertionError(ast.dump(node))

    for block in blocks:
        (statement,) = ast.parse(block).body
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=node):
                variables[name] = value(node)
            case ast.Expr(value=ast.Call(func=ast.Name(id="print"), args=[node])):
                assert block is blocks[-1]
                done.output = str(value(node))
            case _:
                raise AssertionError(ast.dump(statement))
    return done
