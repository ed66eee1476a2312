"""Where the repository's own files are, found relative to the package."""

from __future__ import annotations

import os
from pathlib import Path

#: The repository's root when the package is installed from a checkout (``pip install -e .``).
ROOT = Path(__file__).resolve().parent.parent


def data_dir() -> Path:
    """The ``data`` folder; the environment variable ``OOCR_DATA`` overrides it."""
    override = os.environ.get("OOCR_DATA")
    return Path(override) if override else ROOT / "data"
