"""A notebook's parameters: found in its parameters cell, read from text, shown in a summary.

papermill only warns of an unknown name, and guesses types, so a typo gives a wrong run that looks
right. Here both are errors before anything starts.
"""

from __future__ import annotations

import ast
import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oocr_lib.util.errors import UserError, choose

TYPES = ("str", "int", "float", "bool", "list[str]", "list[int]", "list[float]")
#: Numbers as people write them: "010" and "1_0", which Python reads as 10, are more likely slips.
_WHOLE = r"[-+]?(0|[1-9][0-9]*)"
_DIGITS = {
    "int": re.compile(_WHOLE),
    "float": re.compile(rf"({_WHOLE}(\.[0-9]*)?|[-+]?\.[0-9]+)([eE][-+]?[0-9]+)?"),
}
#: Parameters that the runner sets by options of its own.
OPTIONS = {"preset": "--preset", "out_dir": "--out"}


@dataclass(frozen=True)
class Parameter:
    """One annotated assignment ``name: type = default  # help``."""

    name: str
    type: str
    default: Any
    help: str


def inspect(notebook: Path) -> dict[str, Parameter]:
    """Parameters of a notebook by name, in order, as papermill sees them.

    Raises:
        UserError: not a valid notebook, no parameters cell, or a parameter without a known type.
    """
    import nbformat  # not above: it takes seconds, and every kernel imports this file

    try:
        content = nbformat.read(notebook, as_version=4)
        nbformat.validate(content)
    except Exception as error:  # whatever the JSON and nbformat raise for a bad file
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"Cannot read the notebook {str(notebook)!r}: {reason}.") from error
    sources = [c.source for c in content.cells if "parameters" in c.metadata.get("tags", ())]
    return read_cell(notebook.name, sources[0] if sources else "")


def read_cell(notebook: str, source: str) -> dict[str, Parameter]:
    """Parameters that a parameters cell assigns, by name; see ``inspect``.

    Args:
        notebook: its name, for messages.
    """
    from papermill.translators import PythonTranslator

    logging.getLogger("papermill").setLevel(logging.ERROR)
    entries = PythonTranslator.inspect({"source": source})
    if not entries:
        raise UserError(f"{notebook} has no cell tagged 'parameters' with assignments.")
    parameters = {}
    for entry in entries:
        name, kind = entry.name, entry.inferred_type_name.replace(" ", "")
        choose(kind, TYPES, f"type of the parameter {name!r} in {notebook}:")
        try:
            default = check(name, ast.literal_eval(entry.default), kind)
        except UserError as error:
            raise UserError(f"Default in {notebook}: {error}") from None
        except (ValueError, SyntaxError):
            raise UserError(
                f"Parameter {name!r} in {notebook} has the default {entry.default!r}."
                " Allowed: a plain value. Write one 'name: type = value  # comment' a line and no"
                " other code in this cell."
            ) from None
        parameters[name] = Parameter(name, kind, default, entry.help.strip())
    return parameters


def parse(name: str, text: str, kind: str) -> Any:
    """``text`` as a value of type ``kind`` (one of ``TYPES``); lists as ``1,2,3`` or ``[1, 2, 3]``.

    Raises:
        UserError: the text cannot be read as that type.
    """
    try:
        value = _value(text.strip(), kind)
    except ValueError:
        raise UserError(
            f"Parameter {name!r} got {text!r}. Allowed: {_EXAMPLES[kind]} (type {kind})."
        ) from None
    return check_doubles(name, value) if isinstance(value, list) else value


def check_doubles(name: str, values: list[Any]) -> list[Any]:
    """``values`` if each is there once: one given twice would count as two measurements.

    Raises:
        UserError: one is there twice; the message names the first.
    """
    for i, value in enumerate(values):
        if value in values[:i]:
            raise UserError(
                f"Parameter {name!r} has {value!r} twice. Allowed: each value once; leave one out."
            )
    return values


def check(name: str, value: Any, kind: str) -> Any:
    """``value``, from a YAML file for instance, if it is of type ``kind`` (one of ``TYPES``).

    Raises:
        UserError: it is not.
    """
    if kind.startswith("list[") and isinstance(value, list):
        return check_doubles(name, [check(name, item, kind[5:-1]) for item in value])
    types: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
    fits = type(value) in types.get(kind, (bool,))
    if not fits or kind.startswith("list["):
        raise UserError(
            f"Parameter {name!r} got {value!r}. Allowed: {_EXAMPLES[kind]} (type {kind})."
        )
    if kind == "float" and not math.isfinite(value):
        raise UserError(f"Parameter {name!r} got {value!r}. Allowed: a finite number.")
    return float(value) if kind == "float" else value


def summary(
    notebook: str,
    parameters: Mapping[str, Parameter],
    values: Mapping[str, Any],
    note: str = "",
) -> str:
    """Markdown table of all parameters of a run; changed ones are bold, with their default.

    Args:
        note: a line below the table.
    """
    lines = [f"**Parameters of this run of {notebook}**", "", "| parameter | value | meaning |"]
    lines.append("|---|---|---|")
    for name, parameter in parameters.items():
        value = values.get(name, parameter.default)
        text = f"`{json.dumps(value, ensure_ascii=False)}`"
        if value != parameter.default:
            default = json.dumps(parameter.default, ensure_ascii=False)
            text = f"**{text}** (default `{default}`)"
        cells = (f"`{name}`", text, parameter.help)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, *(["", note] if note else [])])


def _value(text: str, kind: str) -> Any:
    """``text`` as ``kind``; raises ValueError if it cannot be read as that."""
    if kind.startswith("list["):
        if text.startswith("[") != text.endswith("]"):
            raise ValueError(text)
        inner = text[1:-1] if text.startswith("[") else text
        items = [item.strip() for item in inner.split(",")] if inner.strip() else []
        if not all(items):  # a comma too many
            raise ValueError(text)
        return [_value(item.strip("'\""), kind[5:-1]) for item in items]
    if kind == "bool":
        return ("false", "true").index(text.lower()) == 1
    if kind in _DIGITS and not _DIGITS[kind].fullmatch(text):
        raise ValueError(text)
    if kind == "float" and not math.isfinite(float(text)):
        raise ValueError(text)
    return {"str": str, "int": int, "float": float}[kind](text)


_EXAMPLES = {
    "str": "text",
    "int": "a whole number",
    "float": "a finite number",
    "bool": "true or false",
    "list[str]": "texts with commas between",
    "list[int]": "whole numbers with commas between",
    "list[float]": "finite numbers with commas between",
}
