"""A sweep's parameters: from the command line or a YAML file to one set of values per run.

    -p seed=0..4 -p site=resid,mlp_out      5 x 2 runs
    --grid examples/sweep.yaml              name: value, or name: [value, value]; seed: 0..4

For a list-typed parameter, commas separate the items of one list (``-p blocks=0,1`` is one value);
several lists go into the file, as a list of lists.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oocr_lib.parameters.cell import OPTIONS, Parameter, check, parse
from oocr_lib.util.errors import UserError, choose

#: Runs of one notebook in one call; more is a slip of the finger.
MOST = 10_000
#: With a point or an exponent, so that 010 is not one.
_FLOAT = r"[-+]?(([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)"
_RANGE = re.compile(r"\s*(-?\d+)\s*\.\.\s*(-?\d+)\s*")
#: All but the characters that every file system allows in a name.
_UNSAFE = re.compile(r"[^A-Za-z0-9.=+,_-]+")
#: Characters that a folder's name replaces, or puts between values.
_UNCLEAR = re.compile(r"[^A-Za-z0-9._-]")
_LONG = 80
#: In words, what a file may hold instead of parameters by name.
_KINDS: Mapping[type, str] = {list: "a list", str: "a text"}

#: Parameter name to its text on the command line, or its value in the file.
Given = Mapping[str, Any]


def assignments(texts: Sequence[str]) -> dict[str, str]:
    """``name=value`` texts by name.

    Raises:
        UserError: a text without a value, or a name given twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UserError(f"Parameter {text!r} has no value. Write it as name=value.")
        if name in values:
            raise UserError(
                f"Parameter {name!r} is given twice. Give it once; several values with commas, "
                "a range as 0..4."
            )
        values[name] = value
    return values


def read_grid(path: Path | None) -> dict[str, Any]:
    """A YAML file of parameters: a value, or a list of values, by name.

    Raises:
        UserError: no such file, an empty one, malformed YAML, or anything but a mapping.
    """
    if path is None:
        return {}
    import yaml

    try:
        grid = yaml.load(path.read_text(encoding="utf-8"), _plain_loader())
    except OSError as error:
        raise UserError(f"Cannot read --grid {str(path)!r}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(
            f"--grid {path.name} is not YAML{line}. Write one 'name: value' or "
            "'name: [value, value]' a line."
        ) from error
    if not isinstance(grid, dict):
        holds = "is empty" if grid is None else f"holds {_KINDS.get(type(grid), 'one value')}"
        raise UserError(
            f"--grid {path.name} {holds}. Allowed: 'name: value' or 'name: [value, value]', one "
            "a line."
        )
    if numbers := [name for name in grid if not isinstance(name, str)]:
        raise UserError(f"--grid has the name {numbers[0]!r}. Allowed: names of parameters.")
    return grid


def _plain_loader() -> Any:
    """A YAML loader that takes values as they look, and refuses a name that comes twice.

    YAML 1.1 takes 010 for 8, 1:30 for 90, ``yes`` for true, and 1e-4 for text. Here numbers are
    decimal, ``true`` and ``false`` are the only booleans, and all else is text, which a parameter
    of another type refuses.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012, of the base class

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names = [self.construct_object(key, deep=True) for key, _ in node.value]
            for i, name in enumerate(names):
                if name in names[:i]:
                    raise UserError(f"--grid has {name!r} twice. Give it once, as a list.")
            return dict(super().construct_mapping(node, deep))

    digits = "0123456789"
    for tag, pattern, first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?(0|[1-9][0-9]*)", f"-+{digits}"),
        ("float", _FLOAT, f"-+.{digits}"),
        ("null", r"~|null|", ["~", "n", ""]),
    ):
        regexp = re.compile(rf"^(?:{pattern})$")
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", regexp, list(first))
    return Loader


def combinations(
    notebook: str, known: Mapping[str, Parameter], texts: Mapping[str, str], grid: Given
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Every combination of values for one notebook, and the names that have several.

    Raises:
        UserError: an unknown name (with the closest one), a value of another type, a parameter
            that has its own option, one given in both places, or too many runs.
    """
    values: dict[str, list[Any]] = {}
    for name in [*texts, *grid]:
        choose(name, known, f"parameter for {notebook}:")
        if name in OPTIONS:
            raise UserError(f"Parameter {name!r} is set by the option {OPTIONS[name]}. Use that.")
        if name in values:
            raise UserError(f"Parameter {name!r} is given by -p and by --grid. Give it once.")
        kind = known[name].type
        if name in texts:
            values[name] = _from_text(name, texts[name], kind)
        else:
            values[name] = _from_file(name, grid[name], kind)
    runs = math.prod(map(len, values.values()))
    if runs > MOST:
        raise UserError(f"{runs} runs of {notebook} are more than {MOST}. Give fewer values.")
    combined = [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]
    return combined, tuple(name for name, several in values.items() if len(several) > 1)


def _from_text(name: str, text: str, kind: str) -> list[Any]:
    """The values that a text of the command line stands for, each once."""
    if kind.startswith("list["):
        return [parse(name, text, kind)]
    values: list[Any] = []
    for part in text.split(","):
        values += _range(name, part, kind) or [parse(name, part, kind)]
    return list(dict.fromkeys(values))


def _range(name: str, text: Any, kind: str) -> Sequence[int]:
    """The numbers of ``first..last``; empty for other texts, and for other types than int."""
    ends = _RANGE.fullmatch(text) if kind == "int" and isinstance(text, str) else None
    if ends is None:
        return ()
    low, high = (parse(name, end, kind) for end in ends.groups())  # refuses 010, as elsewhere
    if not low <= high < low + MOST:
        raise UserError(
            f"Parameter {name!r} got the range {text.strip()!r}. Allowed: first..last, rising, "
            f"{MOST} values at most."
        )
    return range(low, high + 1)


def _from_file(name: str, entry: Any, kind: str) -> list[Any]:
    """The values that an entry of the YAML file stands for."""
    several = isinstance(entry, list)
    if kind.startswith("list["):
        several = several and bool(entry) and all(isinstance(item, list) for item in entry)
    if not several:
        return list(_range(name, entry, kind)) or [check(name, entry, kind)]
    if not entry:
        raise UserError(f"Parameter {name!r} got an empty list in --grid. Give one value or more.")
    values: list[Any] = []
    for item in entry:
        values += _range(name, item, kind) or [check(name, item, kind)]
    return [item for i, item in enumerate(values) if item not in values[:i]]


def label(values: Mapping[str, Any], varied: Sequence[str]) -> str:
    """A folder name for one run of a sweep: the varied parameters, readable and unique."""
    safe = _UNSAFE.sub("-", ",".join(f"{name}={_shown(values[name])}" for name in varied))
    shown = [values[name] for name in varied]
    texts = [
        str(item) for value in shown for item in (value if isinstance(value, list) else [value])
    ]
    if len(safe) <= _LONG and not any(_UNCLEAR.search(text) for text in texts):
        return safe
    exact = json.dumps([varied, shown], default=str)
    return f"{safe[:_LONG]}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def check_label(text: str) -> str:
    """``text`` if it can be a folder's name.

    Raises:
        UserError: it cannot.
    """
    if not text or text.startswith(".") or _UNSAFE.search(text) or len(text) > 2 * _LONG:
        raise UserError(
            f"Label {text!r} cannot be a folder. Allowed: letters, digits and '=+,._-', not "
            "starting with a dot."
        )
    return text


def _shown(value: Any) -> str:
    """A value as readable text; only the last part of a path."""
    if isinstance(value, list):
        return "+".join(map(_shown, value))
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1] if isinstance(value, str) else str(value)
