"""Identity of runs, their folders with provenance, and their reuse.

A run's identity is the hash of everything that determines it. Its folder appears complete or not
at all, so a killed sweep continues where it stopped: what is there is finished, and what is not
there is done again.

    <root>/<identity>/run.json              spec, results, versions, device, threads, seconds
    <root>/<identity>/tensors.safetensors   trained parameters, if there are any
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import shutil
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oocr_lib import __version__
from oocr_lib.util import file_digest, files as store
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import data_dir

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 2
#: Sources that decide what a run computes; figures, notebooks, statistics and this file do not.
SOURCES = (
    "world",
    "tasks",
    "models",
    "encoding.py",
    "activations.py",
    "adapters",
    "executor.py",
    "training",
    "evaluation",
    "engine",
    "runs/executors.py",
    "runs/grid.py",
    "runs/methods.py",
    "runs/planner.py",
    "runs/run_table.py",
)
#: Packages whose version can change a number: models, tokens, templates, arithmetic.
PACKAGES = ("torch", "transformers", "peft", "numpy", "tokenizers", "safetensors", "jinja2")
#: Tables of the world that only figures use.
_FIGURE_TABLES = ("coastlines.csv",)
_RUN, _TENSORS = "run.json", "tensors.safetensors"
_LEFTOVER_SECONDS = 24 * 3600.0


@checked
def identity(spec: Mapping[str, Any]) -> str:
    """The first 16 hex digits of the SHA-256 of ``spec`` as canonical JSON (keys sorted).

    Raises:
        UserError: a value that JSON cannot hold, or a number that is not finite; its place in
            the spec is named.
    """
    text = json.dumps(_plain(spec, "spec"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_version() -> str:
    """Hash (16 hex digits) of the sources and world tables that determine a run."""
    package = Path(__file__).resolve().parents[1]
    sources = [package / name for name in SOURCES]
    files = [file for source in sources for file in (source, *source.rglob("*.py"))]
    named = [(file.relative_to(package), file) for file in files if file.is_file()]
    tables = data_dir() / "world"
    facts = [file for file in tables.glob("*.*") if file.name not in _FIGURE_TABLES]
    named += [(file.relative_to(tables.parent), file) for file in facts]
    digest = hashlib.sha256()
    for name, file in sorted(named):
        digest.update(f"{name.as_posix()} {file_digest.sha256(file)}\n".encode())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python, of this library and of the packages that determine numbers."""
    library = {"python": platform.python_version(), "oocr_lib": __version__, "code": code_version()}
    return library | package_versions(*PACKAGES)


def package_versions(*packages: str) -> dict[str, str]:
    """The installed version of each package, without importing it; ``absent`` if there is none."""
    return {package: _installed(package) for package in packages}


@cache
def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


@dataclass(frozen=True)
class Run:
    """A finished run: what determined it (``spec``) and what came out (``results``)."""

    id: str
    folder: Path
    spec: dict[str, Any]
    results: dict[str, Any]
    seconds: float
    provenance: dict[str, Any]

    def tensors(self) -> dict[str, Tensor]:
        """The saved tensors by name; empty if the run saved none."""
        path = self.folder / _TENSORS
        return dict(store.load_tensors(path)[0]) if path.exists() else {}


class RunStore:
    """Finished runs below one folder; safe for several processes at once.

    The versions of library, Python and packages are added to every spec, so that a changed version
    never gets old results.
    ``reused`` and ``saved`` count the hits of ``find`` and the calls of ``save``.
    """

    @checked
    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.reused = 0
        self.saved = 0
        _remove_leftovers(self.root)

    @checked
    def find(self, spec: Mapping[str, Any]) -> Run | None:
        """The finished run of this spec, or ``None``. Damaged folders count as missing."""
        run = self._read(identity(self._complete(spec)))
        self.reused += run is not None
        return run

    @checked
    def save(
        self,
        spec: Mapping[str, Any],
        results: Mapping[str, Any],
        tensors: Mapping[str, Tensor] | None = None,
        seconds: float = 0.0,
        device: str = "cpu",
    ) -> Run:
        """Write a finished run and return it as read back from its folder.

        If another process finished the same run in the meantime, its folder stays and is
        returned: the same identity means the same results.

        Raises:
            UserError: spec or results that JSON cannot hold (NaN included); the root cannot be
                written.
        """
        complete = self._complete(spec)
        content = {
            "schema": SCHEMA,
            "id": identity(complete),
            "spec": complete,
            "results": _plain(results, "results"),
            "seconds": round(float(seconds), 3),
            "provenance": {"versions": versions(), "device": device, "threads": _threads()},
        }
        try:
            run = self._install(content, dict(tensors or {}))
        except OSError as error:
            raise UserError(
                f"Cannot write runs to {self.root}: {error.strerror or error}."
                " Make room or give another output folder."
            ) from error
        self.saved += 1
        return run

    def _complete(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        plain: dict[str, Any] = _plain(spec, "spec")
        return {"versions": versions(), **plain}

    def _install(self, content: dict[str, Any], tensors: dict[str, Tensor]) -> Run:
        """Write a temporary folder and move it into place; the first complete one stays."""
        final = self.root / content["id"]
        partial = self.root / f".partial-{content['id']}-{uuid.uuid4().hex[:8]}"
        partial.mkdir(parents=True)
        try:
            if tensors:
                store.save_tensors(partial / _TENSORS, tensors, {"run": content["id"]})
            content["tensors"] = file_digest.sha256(partial / _TENSORS) if tensors else None
            content["check"] = identity(content)
            store.write_json(partial / _RUN, content)
            while (run := self._read(content["id"])) is None:
                # A folder can only be moved to a free name. What stands there is damaged, unless
                # another process has finished the run since the first look.
                if final.exists() and self._read(content["id"]) is None:
                    _discard(final)
                try:
                    partial.rename(final)
                except OSError:
                    if not final.exists():
                        raise
            return run
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _read(self, run_id: str) -> Run | None:
        folder = self.root / run_id
        if not (folder / _RUN).is_file():
            return None
        try:
            content = store.read_json(folder / _RUN)
            if content["schema"] != SCHEMA or identity(content["spec"]) != run_id:
                return None
            if content.pop("check") != identity(content):  # changed after it was written
                return None
            if content["tensors"] and content["tensors"] != file_digest.sha256(folder / _TENSORS):
                return None
            parts = (content["spec"], content["results"], content["seconds"])
            return Run(run_id, folder, *parts, content["provenance"])
        except (UserError, OSError, KeyError, TypeError):
            return None


def _plain(value: Any, where: str) -> Any:
    """``value`` with tuples as lists and mappings as dicts, if JSON can hold it."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise UserError(f"{where} has the key {key!r}. Only text can be a key.")
        return {key: _plain(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner, f"{where}[{i}]") for i, inner in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where} is {value}. Only finite numbers can be saved.")
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise UserError(
        f"{where} is a {type(value).__name__} ({value!r:.40}). Allowed: text, numbers, booleans,"
        " None, lists and dicts of these. Convert it first."
    )


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else None


def _discard(folder: Path) -> None:
    """Move a damaged folder out of the way in one step, then delete it."""
    trash = folder.with_name(f".partial-{folder.name}-{uuid.uuid4().hex[:8]}")
    try:
        os.rename(folder, trash)
    except FileNotFoundError:  # another process was faster
        return
    shutil.rmtree(trash, ignore_errors=True)


def _remove_leftovers(root: Path) -> None:
    """Delete temporary folders of processes that were killed a day or more ago."""
    for folder in root.glob(".partial-*"):
        try:
            old = time.time() - folder.stat().st_mtime > _LEFTOVER_SECONDS
        except FileNotFoundError:
            continue
        if old:
            shutil.rmtree(folder, ignore_errors=True)
