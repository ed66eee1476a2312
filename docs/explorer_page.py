"""The explorer: one page that needs no server, no network and no other file.

Its numbers come from ``data/explorer.json`` (``oocr_lib.report.explorer_maker`` makes it), its
coast from ``data/world/coastlines.csv``; style and script stand in ``docs/explorer``.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

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
    content = _content(root)
    parts = {
        # The browser itself keeps the page from loading or sending anything.
        "policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; "
        f"base-uri 'none'; script-src 'sha256-{digest}'",
        "style": (sources / "style.css").read_text(encoding="utf-8"),
        "script": script,
        "data": _numbers(content),
        "cities": str(len(content.get("cities", []))),
        "asked": _asked(content),
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


def _content(root: Path) -> dict[str, Any]:
    """The explorer's numbers."""
    try:
        content: dict[str, Any] = json.loads((root / DATA).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExplorerError(
            f"{DATA} cannot be read ({error}). Make it: python -m oocr_lib.report.explorer_maker"
        ) from error
    return content


def _asked(content: dict[str, Any]) -> str:
    """How many cities have which blocks: ``10 at blocks 0, 2, 4, 6, 98 at blocks 0, 4``."""
    places = content.get("cities", [])
    counts = Counter(tuple(vector["block"] for vector in place["vectors"]) for place in places)
    return "; ".join(
        f"{count} with vectors after blocks {', '.join(map(str, blocks))}"
        for blocks, count in counts.items()
    )


def _numbers(content: dict[str, Any]) -> str:
    """The numbers as JSON that can stand in a page: nothing in it ends its element."""
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
