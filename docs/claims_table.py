"""The claims page: statements and rules from ``data/claims.toml``, verdicts from notebook 11.

The verdicts are those that the committed, executed notebook shows, so that the page never
disagrees with the notebooks beside it and needs no results on disk.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

NOTEBOOK = "11_claims"
RULES = "data/claims.toml"
#: Each verdict has a sign and words, so that colour is never needed to read it.
SIGNS = {"holds": "✓", "does not hold": "✗", "undecided": "?", "not run": "–"}
NO_BREAK = "\N{NO-BREAK SPACE}"

_ROW = re.compile(
    rf"\s*([a-z0-9]+(?:-[a-z0-9]+)*)\s+\S.*?\s+({'|'.join(SIGNS)})\s+\d+\s*", re.ASCII
)
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#!|$~^&])")


class ClaimsError(Exception):
    """There is no table of verdicts to show."""


def verdicts(notebook: dict[str, Any]) -> dict[str, str]:
    """Verdict by claim, from the table that the notebook printed."""
    found = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            for line in "".join(output.get("text", "")).splitlines():
                row = _ROW.fullmatch(line)
                if row:
                    found[row[1]] = row[2]
    return found


def page(root: Path) -> str:
    """The claims page in Markdown.

    Raises:
        ClaimsError: The notebook or its table is missing.
    """
    path = root / "notebooks" / f"{NOTEBOOK}.ipynb"
    rules = root / RULES
    if not (path.is_file() and rules.is_file()):
        raise ClaimsError(f"no claims page without {path.name} and {rules.name}")
    words = verdicts(json.loads(path.read_text(encoding="utf-8")))
    claims = tomllib.loads(rules.read_text(encoding="utf-8"))["claim"]
    if not words:
        raise ClaimsError(f"{path.name} shows no table of verdicts")
    there = {file.stem for file in path.parent.glob("*.ipynb")}
    # A claim added after the notebook was run has no verdict yet.
    judged = [(claim, words.get(claim["id"], "not run")) for claim in claims]
    number = Counter(word for _, word in judged)
    counts = ", ".join(f"{word} {number[word]}" for word in SIGNS)
    head = [
        "# Claims",
        f"{len(judged)} statements of the paper and its readers: {counts}.",
        "A claim holds when all its checks do. The verdicts are about the small testbed, not about"
        " the paper's model; they are those of the committed notebook"
        f" [{NOTEBOOK}](notebooks/{NOTEBOOK}.ipynb). The measured numbers are in the notebooks"
        " named beside the rules. “Second-hand” values were not read in the paper itself."
        f" All rules: [{RULES}]({RULES}).",
    ]
    table = ["{.claims}", "| claim | verdict | paper's value | checks |", "|" + "---|" * 4]
    table += [_row(claim, word, there) for claim, word in judged]
    return "\n\n".join(head) + "\n\n" + "\n".join(table) + "\n"


def _row(claim: dict[str, Any], word: str, there: set[str]) -> str:
    """One line of the table."""
    about = f"`{claim['id']}`; {_plain(claim['source'])}"
    if claim.get("note"):
        about += f". {_plain(claim['note'])}"
    checks = []
    for check in (claim, *claim.get("also", [])):
        name = check["notebook"]
        link = f"[{name}](notebooks/{name}.ipynb)" if name in there else _plain(name)
        rule = check["rule"].replace(" ", NO_BREAK)
        checks.append(f"{link}: `{check['metric']}` `{rule}`")
    cells = [
        f"{_plain(claim['statement'])} [{about}]{{.note}}",
        f"[{SIGNS[word]} {word}]{{.verdict .{word.replace(' ', '-')}}}",
        _plain(claim["paper_value"]),
        "<br>".join(checks),
    ]
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """Text that Markdown takes literally, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
