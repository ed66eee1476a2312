"""Which interpreter this is and which packages it has; said by a kernel before its first cell.

The runner starts this inside the kernel (``write``), and before that in the same interpreter
(``python -m oocr_lib.kernel_record``), to know what a run depends on. It also runs in environments
that are not the library's own, so it needs nothing but Python.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
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
    """The interpreter's path, its version, and the packages' versions without importing them."""
    packages = {}
    for package in PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "absent"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return {"interpreter": sys.executable, "python": python, "packages": packages}


def write() -> None:
    """Write the record where the runner waits for it; a kernel started otherwise writes nothing."""
    path = os.environ.get(VARIABLE)
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(record(), file)


if __name__ == "__main__":
    print(json.dumps(record()))
