"""Which interpreter this is and which packages it has; a kernel writes it before its first cell.

The runner starts this inside the kernel (``write``), and before that in the same interpreter
(``python -m oocr_lib.runner.kernel_record``), to know what a run depends on. It also runs in
environments that are not the library's own, so it needs nothing but Python.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: What numbers and figures depend on.
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "numpy",
    "tokenizers",
    "safetensors",
    "jinja2",
    "pandas",
    "matplotlib",
)
#: Where a kernel writes its record.
VARIABLE = "OOCR_KERNEL_RECORD"


def record() -> dict[str, Any]:
    """The interpreter's path and version, the packages' versions, and what it computes on.

    No package is imported for it.
    """
    packages = {}
    for package in PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "absent"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    machine = f"{platform.system()} {platform.machine()}"
    return {
        "interpreter": sys.executable,
        "python": python,
        "packages": packages,
        "machine": machine,
        "gpus": _gpus(),
    }


def _gpus() -> list[str]:
    """Models of the NVIDIA cards that Linux lists; other systems differ by ``machine`` alone."""
    models = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        models += [line.split(":", 1)[1].strip() for line in lines if line.startswith("Model:")]
    return models


def write() -> None:
    """Write the record where the runner expects it; a kernel started otherwise writes nothing."""
    path = os.environ.get(VARIABLE)
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(record(), file)


if __name__ == "__main__":
    print(json.dumps(record()))
