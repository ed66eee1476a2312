"""What a notebook's parameters may be, known before anything is loaded.

A notebook says of its own parameters what kind of value they take (metadata ``oocr.allowed``, for
instance ``{"hidden": "city", "layers": "block"}``); here is what each kind allows. Nothing in this
module loads torch, so that a wrong name ends a command within a second.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

from oocr_lib.parameters.cell import Parameter, inspect
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.paths import data_dir, resolve

#: What ``seed`` may be, a parameter of every notebook.
_SEED = "0 to 2**32 - 1"


def _cities(model: Path | None) -> Sequence[Any]:
    from oocr_lib.world import facts as world

    return [city.name for city in world.cities()]


def _functions(model: Path | None) -> Sequence[Any]:
    from oocr_lib.world import facts as world

    return [function.key for function in world.functions()]


def _triggers(model: Path | None) -> Sequence[Any]:
    from oocr_lib.tasks.backdoor import testbed as backdoor

    return backdoor.triggers()


def _tasks(model: Path | None) -> Sequence[Any]:
    from oocr_lib import tasks

    return tasks.NAMES


def _blocks(model: Path | None) -> Sequence[Any]:
    """Block numbers of a model in a folder; empty if the model is not there yet."""
    try:
        text = (model / "config.json").read_text(encoding="utf-8") if model else "{}"
        config = json.loads(text)
        config = config.get("text_config", config)
        count = config.get("num_hidden_layers", config.get("n_layer", 0))
        return range(count)
    except (OSError, ValueError, TypeError, AttributeError):  # loading it will say what is wrong
        return ()


#: Kind to the values that it allows, given the model's folder; empty if only loading shows them.
KINDS: Mapping[str, Callable[[Path | None], Sequence[Any]]] = {
    "city": _cities,
    "function": _functions,
    "trigger": _triggers,
    "task": _tasks,
    "block": _blocks,
    "site": lambda model: ("resid", "mlp_out"),
    "policy": lambda model: ("risky", "safe"),
}


def kinds(notebook: Path) -> dict[str, str]:
    """Parameter name to kind, as the notebook says.

    Raises:
        UserError: a kind that is not one of ``KINDS``.
    """
    declared = nbformat.read(notebook, as_version=4).metadata.get("oocr", {}).get("allowed", {})
    for name, kind in declared.items():
        choose(kind, KINDS, f"kind of values for {name!r} in {notebook.name}:")
    return dict(declared)


def values(kind: str, model: str, typed_in: Path) -> Sequence[Any]:
    """What a kind allows for a model; empty where that is known only after loading it."""
    return KINDS[kind](_folder(model, typed_in))


def check(notebook: Path, given: Mapping[str, Any], typed_in: Path) -> None:
    """Check the values of one run.

    Args:
        given: every parameter.

    Raises:
        UserError: a value that its kind does not allow, with the closest one that is allowed.
    """
    seed = given.get("seed", 0)
    if isinstance(seed, int) and not 0 <= seed < 2**32:
        raise UserError(f"Parameter 'seed' got {seed}. Allowed: {_SEED}.")
    defaults = inspect(notebook)
    for name, kind in kinds(notebook).items():
        value = given.get(name)
        allowed = values(kind, str(given.get("model", "testbed")), typed_in)
        items = (value or [""]) if isinstance(value, list) else [value]
        # Where a notebook's default is empty, that stands for all values, or for none.
        is_default = name in defaults and value == defaults[name].default
        for item in () if is_default or not allowed else items:
            if item not in allowed:
                raise UserError(f"Parameter {name!r} got {item!r}.{_close(item, allowed)}")


def _close(value: Any, allowed: Sequence[Any]) -> str:
    texts = [str(other) for other in allowed]
    by_case = {text.lower(): text for text in texts}
    near = difflib.get_close_matches(str(value).lower(), by_case, n=1)
    guess = f" Did you mean {by_case[near[0]]!r}?" if near and isinstance(allowed[0], str) else ""
    return f"{guess} Allowed: {shown(allowed)}."


def shown(known: Sequence[Any]) -> str:
    """Allowed values as one text, long lists by their ends."""
    if isinstance(known, range):
        return f"{known[0]} to {known[-1]}"
    if len(known) <= 20:
        return ", ".join(map(str, known))
    return f"{', '.join(map(str, known[:12]))}, … ({len(known)} in all)"


def _folder(model: str, typed_in: Path) -> Path | None:
    if model == "testbed" or model.startswith("testbed-"):
        return data_dir() / model
    path = resolve(model, typed_in)
    return path if path.is_dir() else None


def describe(notebook: Path, known: Mapping[str, Parameter], typed_in: Path) -> Iterator[str]:
    """One line per parameter: name, type, default, meaning, and what is allowed."""
    declared = kinds(notebook)
    rows = []
    for name, parameter in known.items():
        allowed = _SEED if name == "seed" else ""
        if name in declared:
            allowed = shown(values(declared[name], "testbed", typed_in))
        rows.append((name, parameter.type, json.dumps(parameter.default), allowed, parameter.help))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, kind, default, allowed, text in rows:
        columns = (name, kind, default)
        line = "  ".join(f"{c:<{w}}" for c, w in zip(columns, widths, strict=True))
        yield f"{line}  {text}" + (f" [{allowed}]" if allowed else "")
