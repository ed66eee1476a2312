"""Which notebook runs are finished: a record beside each, and what it depends on.

    <out>/<preset>/<notebook>/<label>/run.json    identity, values, seconds, digests of the files

The record is written last. A run counts as finished when its record has the identity of what would
be run now, and the notebook and ``metrics.json`` are the files that it was written for.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import nbformat

from oocr_lib import store
from oocr_lib.errors import UserError
from oocr_lib.paths import ROOT, data_dir
from oocr_lib.runs import package_versions, versions

FILE = "run.json"
SCHEMA = 1
#: What a notebook's outputs show beyond the numbers.
_DRAWING = ("pandas", "matplotlib")


def identity(notebook: Path, values: Mapping[str, Any], preset_folder: Path, own: str) -> str:
    """16 hex digits of everything that determines a notebook run.

    The code of its cells, all parameters with their defaults, the library, the shipped data,
    versions, threads, the content of files and folders that parameters name, and what the notebook
    says that it reads (metadata ``oocr.reads``: patterns below the preset's folder).

    Args:
        values: every parameter.
        preset_folder: ``<out>/<preset>``.
        own: the run's folder, below it; never read by itself.
    """
    read = nbformat.read(notebook, as_version=4)
    code = [cell.source for cell in read.cells if cell.cell_type == "code"]
    named = {name: _content(value) for name, value in values.items() if isinstance(value, str)}
    inputs = [
        (path.relative_to(preset_folder).as_posix(), digest(path))
        for pattern in reads(notebook)
        for path in sorted(preset_folder.glob(pattern))
        if not path.is_relative_to(preset_folder / own)
    ]
    spec = {
        "code": code,
        "values": dict(values),
        "named": {name: found for name, found in named.items() if found},
        "inputs": inputs,
        "library": _library(),
        "versions": versions() | package_versions(*_DRAWING),
        "threads": os.environ.get("OOCR_THREADS", ""),
    }
    text = json.dumps(spec, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def reads(notebook: Path) -> tuple[str, ...]:
    """Patterns of files of other notebooks that this one reads; it runs after them."""
    return _says(notebook, "reads")


def after(notebook: Path) -> tuple[str, ...]:
    """Notebooks whose training runs this one finds again (metadata ``oocr.after``).

    It runs without them, too, but would train twice what runs at the same time.
    """
    return _says(notebook, "after")


def minutes(notebook: Path) -> float:
    """About how long a notebook takes (metadata ``oocr.minutes``); 0 where it does not say."""
    return float(nbformat.read(notebook, as_version=4).metadata.get("oocr", {}).get("minutes", 0))


def _says(notebook: Path, key: str) -> tuple[str, ...]:
    metadata = nbformat.read(notebook, as_version=4).metadata
    return tuple(metadata.get("oocr", {}).get(key, ()))


def record(
    folder: Path, identity: str, notebook: str, values: Mapping[str, Any], seconds: float
) -> None:
    """Say that the run in ``folder`` is finished.

    Raises:
        OSError: it cannot be written.
    """
    content = {
        "schema": SCHEMA,
        "identity": identity,
        "notebook": notebook,
        "values": dict(values),
        "seconds": round(seconds, 1),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {name: digest(folder / name) for name in _files(notebook)},
    }
    store.write_json(folder / FILE, content)


def find(folder: Path, identity: str | None = None) -> dict[str, Any] | None:
    """The record of a finished run, or None.

    Args:
        identity: of what would be run now; None takes any.
    """
    try:
        found: dict[str, Any] = store.read_json(folder / FILE)
        same = identity in (None, found["identity"])
        whole = all(digest(folder / name) == d for name, d in found["files"].items())
        return found if same and whole and found["schema"] == SCHEMA else None
    except (UserError, OSError, KeyError, TypeError, AttributeError):
        return None  # absent, damaged or of another version: not finished


def digest(path: Path) -> str:
    """SHA-256 of a file, 16 hex digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _files(notebook: str) -> tuple[str, str]:
    return f"{notebook}.ipynb", "metrics.json"


def _content(text: str) -> str:
    """What stands behind a parameter that names a file or folder; "" if it names none."""
    for base in (ROOT / "notebooks", ROOT):
        path = base / text
        try:
            if text and path.is_file():
                return digest(path)
            if text and path.is_dir():
                listed = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in path.iterdir()]
                return hashlib.sha256(repr(sorted(listed)).encode()).hexdigest()[:16]
        except OSError:  # too long for a name, or not readable
            continue
    return ""


@cache
def _library() -> str:
    """Digest of the whole library and the shipped data: figures count, too."""
    package = Path(__file__).resolve().parent
    data = data_dir()
    files: Iterable[Path] = [*package.rglob("*.py"), *data.glob("*.toml")]
    files = [*files, *(f for name in ("world", "testbed") for f in (data / name).rglob("*"))]
    found = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file()):
        found.update(f"{file.name} {digest(file)}\n".encode())
    return found.hexdigest()[:16]
