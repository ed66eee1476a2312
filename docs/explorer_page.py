"""The explorer: one page that needs no server, no network and no other file.

Its numbers come from ``data/explorer.json`` (``oocr_lib.report.explorer`` makes it), its coast from
``data/world/coastlines.csv``; style and script stand in ``docs/explorer``.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from pathlib import Path

DATA = "data/explorer.json"
PAGE = "explorer.html"
#: More would be slow to open, and to carry on a stick.
LIMIT_BYTES = 5_000_000
_PLACE = re.compile(r"\{\{(\w+)\}\}")


class ExplorerError(Exception):
    """The explorer cannot be made; the message says why in one line."""


def page(root: Path) -> str:
    """The page, from the repository's files.

    Raises:
        ExplorerError: Numbers that cannot be read, or more of them than a page should hold.
    """
    sources = root / "docs" / "explorer"
    script = (sources / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    land, lakes = _coast(root)
    parts = {
        # The browser itself keeps the page from loading or sending anything.
        "policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; "
        f"base-uri 'none'; script-src 'sha256-{digest}'",
        "style": (sources / "style.css").read_text(encoding="utf-8"),
        "script": script,
        "data": _numbers(root),
        "land": land,
        "lakes": lakes,
    }
    template = (sources / "page.html").read_text(encoding="utf-8")
    made = _PLACE.sub(lambda match: parts[match[1]], template)
    size = len(made.encode())
    if size > LIMIT_BYTES:
        raise ExplorerError(
            f"the explorer would have {size:,} bytes, more than {LIMIT_BYTES:,}. Ask fewer doses "
            "or blocks in oocr_lib/report/explorer.py."
        )
    return made


def _numbers(root: Path) -> str:
    """The numbers as JSON that can stand in a page: nothing in it ends its element."""
    try:
        content = json.loads((root / DATA).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExplorerError(
            f"{DATA} cannot be read ({error}). Make it: python -m oocr_lib.report.explorer"
        ) from error
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", r"\u003c")


def _coast(root: Path) -> tuple[str, str]:
    """Land and lakes as SVG paths, x to the east and y to the south, in degrees."""
    outlines: dict[str, list[str]] = {}
    with (root / "data" / "world" / "coastlines.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            x, y = float(row["longitude"]), -float(row["latitude"])
            outlines.setdefault(row["polygon"], []).append(f"{x:g} {y:g}")
    paths: tuple[list[str], list[str]] = ([], [])
    for name, points in outlines.items():
        paths[name.startswith("lake_")].append(f"M{'L'.join(points)}Z")
    return "".join(paths[0]), "".join(paths[1])
