"""Which notebook runs are finished: a record beside each, and what it depends on.

    <out>/<preset>/<notebook>/<label>/run.json    identity, values, seconds, digests of the files

The record is written last. A run counts as finished when its record has the identity of what would
be run now, and the notebook and ``metrics.json`` are the files that it was written for.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from oocr_lib.parameters import named
from oocr_lib.util import file_digest, files as store, machine
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import data_dir

FILE = "run.json"
SCHEMA = 1
#: Variables by which the libraries below this one choose the device or the arithmetic. What this
#: library reads itself is in the identity as threads, data and parameters.
VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
    "ATEN_CPU_CAPABILITY",
)


def identity(
    notebook: Path,
    values: Mapping[str, Any],
    preset_folder: Path,
    own: str,
    *,
    kernel: Mapping[str, Any],
    typed_in: Path,
) -> str:
    """16 hex digits from a hash of everything that determines a notebook run.

    The code of its cells, all parameters with their defaults, the library, the shipped data, the
    kernel's versions, threads, the content of files and folders that parameters name, and what the
    notebook says that it reads (metadata ``oocr.reads``: patterns below the preset's folder).

    Args:
        values: every parameter.
        preset_folder: ``<out>/<preset>``.
        own: the run's folder below it, whose files the run never reads.
        kernel: from ``kernels.ask``; the interpreter's path does not count.
        typed_in: the folder that paths among the values are relative to.

    Raises:
        UserError: a file that cannot be read, or a bad number of threads.
    """
    cells = _read(notebook)["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    inputs = [
        (path.relative_to(preset_folder).as_posix(), digest(path))
        for pattern in reads(notebook)
        for path in sorted(preset_folder.glob(pattern))
        if not path.is_relative_to(preset_folder / own)
    ]
    spec = {
        "code": code,
        "values": dict(values),
        "named": named.contents(values, typed_in),
        "inputs": inputs,
        "library": _library(),
        "kernel": {key: value for key, value in kernel.items() if key != "interpreter"},
        "threads": machine.threads(),
        "variables": {name: os.environ.get(name, "") for name in VARIABLES},
    }
    text = json.dumps(spec, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def reads(notebook: Path) -> tuple[str, ...]:
    """Patterns of files of other notebooks that this one reads; it runs after them."""
    return _says(notebook, "reads")


def after(notebook: Path) -> tuple[str, ...]:
    """Notebooks whose training runs this one reuses (metadata ``oocr.after``).

    It also runs without them, but at the same time as them it would train the same runs again.
    """
    return _says(notebook, "after")


def minutes(notebook: Path) -> float:
    """About how long a notebook takes (metadata ``oocr.minutes``); 0 where it does not say."""
    return float(_read(notebook)["metadata"].get("oocr", {}).get("minutes", 0))


def _says(notebook: Path, key: str) -> tuple[str, ...]:
    return tuple(_read(notebook)["metadata"].get("oocr", {}).get(key, ()))


def _read(notebook: Path) -> dict[str, Any]:
    """A notebook as JSON: importing nbformat takes seconds, and every kernel imports this file."""
    content: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    return content


def record(
    folder: Path,
    identity: str,
    notebook: str,
    values: Mapping[str, Any],
    seconds: float,
    kernel: Mapping[str, Any],
) -> None:
    """Say that the run in ``folder`` is finished.

    Args:
        kernel: what the kernel said of itself, see ``kernel_record``. It holds a path of this
            machine, so it stands here only, not in the notebook or ``metrics.json``.

    Raises:
        OSError: it cannot be written.
    """
    content = {
        "schema": SCHEMA,
        "identity": identity,
        "notebook": notebook,
        "values": dict(values),
        "kernel": dict(kernel),
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
        content: dict[str, Any] = store.read_json(folder / FILE)
        same = identity in (None, content["identity"])
        intact = all(digest(folder / name) == d for name, d in content["files"].items())
        return content if same and intact and content["schema"] == SCHEMA else None
    except (UserError, OSError, KeyError, TypeError, AttributeError):
        return None  # absent, damaged or of another version: not finished


def digest(path: Path) -> str:
    """SHA-256 of a file, 16 hex digits."""
    return file_digest.of_file(path)


def _files(notebook: str) -> tuple[str, str]:
    return f"{notebook}.ipynb", "metrics.json"


def _library() -> str:
    """Digest of the whole library and the shipped data, as figures count, too."""
    package, data = Path(__file__).resolve().parents[1], data_dir()
    sources = [*package.rglob("*.py"), *package.rglob("pages/*")]
    files = [(file.relative_to(package), file) for file in sources]
    for pattern in ("*.toml", "world/**/*", "testbed/**/*"):
        files += [(file.relative_to(data), file) for file in data.glob(pattern)]
    combined = hashlib.sha256()
    for name, file in sorted(files):
        if file.is_file():
            combined.update(f"{name.as_posix()} {digest(file)}\n".encode())
    return combined.hexdigest()[:16]
