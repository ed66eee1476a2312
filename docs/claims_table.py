"""The claims page: statements and rules, our numbers and verdicts, and the cells that make them.

Statements and rules come from ``data/claims.toml``; numbers and verdicts from the references, which
are those of the run behind the committed notebooks. So the page needs no results on disk. It is not
built when the table in notebook 11 says something else.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import notebook_cells

NOTEBOOK = "11_claims"
RULES = "data/claims.toml"
NUMBERS = "data/reference/laptop/claims.json"
#: Each verdict has a sign and words, so that colour is never needed to read it.
SIGNS = {"holds": "✓", "does not hold": "✗", "undecided": "?", "not run": "–", "withdrawn": "⊘"}
NO_BREAK = "\N{NO-BREAK SPACE}"
#: Metrics that count something end so; they have no interval.
COUNTS = ("count", "triggers")

_ROW = re.compile(
    rf"\s*([a-z0-9]+(?:-[a-z0-9]+)*)\s+\S.*?\s+({'|'.join(SIGNS)})\s+\d+\s*", re.ASCII
)
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#!|$~^&])")


class ClaimsError(Exception):
    """There is no table of verdicts to show."""


def verdicts(notebook: dict[str, Any]) -> dict[str, str]:
    """Verdict by claim, from the table that the notebook printed or displayed."""
    found = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            for line in "".join(text).splitlines():
                row = _ROW.fullmatch(line)
                if row and row[1] not in SIGNS:  # the head of a table of counts is no claim
                    found[row[1]] = row[2]
    return found


def load(root: Path) -> list[dict[str, Any]]:
    """Every claim of the rules with its ``verdict`` and its ``checks``, in their order.

    A check has the fields of the references (``value``, ``ci``, ``n`` and others). One that is
    newer than the references has the value None, and its claim is "not run".

    Raises:
        ClaimsError: A file is missing, or notebook 11 shows no verdicts or other ones.
    """
    path = root / "notebooks" / f"{NOTEBOOK}.ipynb"
    for file in (path, root / RULES, root / NUMBERS):
        if not file.is_file():
            raise ClaimsError(f"no claims page without {file.relative_to(root).as_posix()}")
    words = verdicts(json.loads(path.read_text(encoding="utf-8")))
    if not words:
        raise ClaimsError(f"{path.name} shows no table of verdicts")
    measured = json.loads((root / NUMBERS).read_text(encoding="utf-8"))["claims"]
    for claim in measured:
        shown = words.get(claim["id"], claim["verdict"])
        if shown != claim["verdict"]:
            raise ClaimsError(
                f"{claim['id']}: {path.name} says {shown!r}, {NUMBERS} {claim['verdict']!r}. "
                "Take both from one run: python -m oocr_lib.report.landing write "
                "--from results/laptop"
            )
    known = {claim["id"]: claim for claim in measured}
    claims = tomllib.loads((root / RULES).read_text(encoding="utf-8"))["claim"]
    return [_judged(claim, known.get(claim["id"])) for claim in claims]


def _judged(claim: dict[str, Any], known: dict[str, Any] | None) -> dict[str, Any]:
    """A claim of the rules with what the references say of it."""
    named = ("notebook", "metric", "rule")
    numbers = {tuple(c[key] for key in named): c for c in (known or {}).get("checks", [])}
    checks = []
    for check in (claim, *claim.get("also", [])):
        key = tuple(check[part] for part in named)
        absent = dict(zip(named, key, strict=True)) | {"value": None, "ci": None, "n": None}
        checks.append(numbers.get(key, absent))
    complete = all(check["value"] is not None for check in checks)
    return claim | {
        "checks": checks,
        "verdict": known["verdict"] if known and complete else "not run",
        "changes": known.get("amended", []) if known else [],
        "by_rule": known.get("by_rule", known["verdict"]) if known and complete else "not run",
    }


def page(root: Path) -> str:
    """The claims page in Markdown.

    Raises:
        ClaimsError: A file is missing, or notebook 11 shows no verdicts or other ones.
    """
    judged = load(root)
    notebooks = notebook_cells.load(root)
    number = Counter(claim["verdict"] for claim in judged)
    counts = ", ".join(f"{word} {number[word]}" for word in SIGNS)
    head = [
        "# Claims",
        f"{len(judged)} statements of the paper and its readers: {counts}.",
        "A claim holds when all its checks do. Numbers and verdicts are about the small testbed,"
        " not about the paper's model: means over n runs or questions with 95 % intervals, from"
        f" the run behind the committed notebooks ([{NOTEBOOK}](notebooks/{NOTEBOOK}.ipynb)). The"
        " name below a rule leads to the cell that makes the number. “Second-hand” values were not"
        f" read in the paper itself. All rules: [{RULES}]({RULES}).",
    ]
    table = ["{.claims}", "| claim | verdict | our value and the rule | paper's value |"]
    table += ["|" + "---|" * 4, *(_row(claim, notebooks) for claim in judged)]
    return "\n\n".join(head) + "\n\n" + "\n".join(table) + "\n"


def _row(claim: dict[str, Any], notebooks: dict[str, dict[str, Any]]) -> str:
    """One line of the table."""
    about = f"`{claim['id']}`; {plain(claim['source'])}"
    if claim.get("note"):
        about += f". {plain(claim['note'])}"
    for change in claim["changes"]:
        about += f". {plain(change)}"
    if gone := claim.get("withdrawn"):
        about += f". Withdrawn {gone['date']}: {plain(gone['reason'])} Rule: {claim['by_rule']}"
    word = claim["verdict"]
    cells = [
        f"[{plain(claim['statement'])}]{{#{anchor(claim)}}} [{about}]{{.note}}",
        f"[{SIGNS[word]} {word}]{{.verdict .{word.replace(' ', '-')}}}",
        " ".join(_check(check, notebooks) for check in claim["checks"]),
        plain(claim["paper_value"]),
    ]
    return "| " + " | ".join(cells) + " |"


def _check(check: dict[str, Any], notebooks: dict[str, dict[str, Any]]) -> str:
    """Our value, the rule, and the cell that makes the value."""
    name, metric = check["notebook"], check["metric"]
    where = f"{plain(name)}: {plain(metric)}"
    if name in notebooks:
        cell = notebook_cells.maker(notebooks[name], metric)
        target = f"notebooks/{name}.ipynb" + (f"#{cell}" if cell else "")
        where = f"[{name[:2]}: {plain(metric)}]({target}){{.made}}"
    rule = check["rule"].replace(" ", NO_BREAK)
    return f"[**{value(check)}** `{rule}` {where}]{{.check}}"


def value(check: dict[str, Any]) -> str:
    """What was measured: ``0.79 [0.77, 0.82], n 6``; a count has no interval."""
    if check["value"] is None:
        return "not run"
    if check["metric"].rsplit("/", 1)[-1] in COUNTS:
        return f"{check['value']:,.0f}" + (f" of {check['n']:,}" if check["n"] else "")
    text = f"{check['value']:z.2f}"
    if check["ci"] is not None:
        text += " [{:z.2f}, {:z.2f}]".format(*check["ci"])
    return text if check["n"] is None else f"{text}, n{NO_BREAK}{check['n']:,}"


def anchor(claim: dict[str, Any]) -> str:
    """Where a claim is on the page."""
    return f"claim-{claim['id']}"


def plain(text: str) -> str:
    """Text that Markdown takes literally, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
