"""The workflow's jobs: one a notebook, and one for each other combination of its parameters.

A run with default parameters goes to ``<out>/<preset>/<notebook>/``, where notebooks that read
others' results look for it; any other run goes to a folder of its own in there, named after what
differs.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oocr_lib.parameters import cell as parameters, values as batch_grid
from oocr_lib.util.errors import UserError, choose

#: Methods of an experiment that write a file, and its ending.
_WRITES = {"table": "csv", "figure": "png"}


@dataclass(frozen=True)
class Job:
    """One run of a notebook.

    Attributes:
        folder: where the run writes.
        label: the folder's name below the notebook's own; empty for default parameters.
        values: parameters that are not at their defaults.
        files: tables and figures that every run of the notebook writes.
    """

    source: Path
    folder: Path
    label: str
    values: Mapping[str, Any]
    files: tuple[str, ...]

    @property
    def notebook(self) -> str:
        """The notebook's name."""
        return self.source.stem

    @property
    def rule(self) -> str:
        """A name that Snakemake takes."""
        return re.sub(r"\W", "_", f"nb_{self.notebook}_{self.label}".rstrip("_"))

    @property
    def metrics(self) -> str:
        """The run's numbers."""
        return str(self.folder / "metrics.json")

    @property
    def drawn(self) -> list[str]:
        """The run's known tables and figures."""
        return [str(self.folder / name) for name in self.files]

    @property
    def executed(self) -> str:
        """The executed notebook."""
        return str(self.folder / f"{self.notebook}.ipynb")

    @property
    def log(self) -> str:
        """What the command prints: the failed cell, and where its notebook is."""
        return str(self.folder / "batch.log")

    @property
    def arguments(self) -> str:
        """What the batch command gets beyond notebook, preset and output folder."""
        words = [word for name, v in self.values.items() for word in ("-p", f"{name}={v}")]
        return shlex.join([*words, *(["--label", self.label] if self.label else [])])

    @property
    def depth(self) -> int:
        """How far ``<out>`` is above ``metrics.json``, counted as ``Path.parents`` does."""
        return 3 if self.label else 2


def plan(config: Mapping[str, Any]) -> list[Job]:
    """All jobs of a configuration, those that read others' results last.

    Raises:
        UserError: an unknown preset, notebook or parameter, or a value of another type.
    """
    choose(config["preset"], config["gpu"], "preset")
    there = {path.stem: path for path in sorted(Path(config["folder"]).glob("*.ipynb"))}
    names, grid = config["notebooks"] or list(there), config["grid"] or {}
    for name in names:
        choose(name, there, "notebook")
    for name in grid:
        choose(name, names, "notebook in the grid")
    names = sorted(names, key=lambda name: name in config["readers"])
    base = Path(config["out"]) / config["preset"]
    return [job for name in names for job in _runs(there[name], base, grid.get(name) or {})]


def _runs(source: Path, base: Path, grid: Mapping[str, Any]) -> Iterator[Job]:
    """The default run of a notebook, and each other combination once."""
    files, folder = written(source), base / source.stem
    yield Job(source, folder, "", {}, files)
    if not grid:
        return
    known = parameters.inspect(source)
    made, _ = batch_grid.combinations(source.stem, known, {}, grid)
    for values in made:
        # In the order of the parameters, so that the command by hand finds the same folder.
        other = {
            name: values[name]
            for name, one in known.items()
            if name in values and values[name] != one.default
        }
        for name, value in other.items():
            if isinstance(value, str) and "," in value:
                raise UserError(
                    f"Parameter {name!r} got {value!r}. The command reads a comma as several"
                    " values: run this one by hand, with --grid."
                )
        if other:
            label = batch_grid.label(other, tuple(other))
            yield Job(source, folder / label, label, other, files)


def written(source: Path) -> tuple[str, ...]:
    """Files of ``exp.table`` and ``exp.figure`` calls that run in every preset.

    Calls in loops and conditions are left out: a declared file that is not written is an error.
    """
    cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
    trees = [ast.parse("".join(c["source"])) for c in cells if c["cell_type"] == "code"]
    plain = [s for tree in trees for s in tree.body if isinstance(s, ast.Expr | ast.Assign)]
    names = [_written_by(node) for statement in plain for node in ast.walk(statement)]
    return tuple(dict.fromkeys(name for name in names if name))


def _written_by(node: ast.AST) -> str:
    """The file that a call writes, or an empty text."""
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="exp"), attr=method),
            args=[_, ast.Constant(value=str(name)), *_],
        ) if method in _WRITES:
            return f"{name}.{_WRITES[method]}"
    return ""
