"""The figures page: the paper's figures beside ours, then those of ours that it has no match for.

What the paper shows comes from ``docs/figures.toml``; pictures and their descriptions from the
outputs of the committed notebooks; numbers and verdicts from the claims that cite the figure. So
nothing of ours is written twice, and a figure that was renamed stops the book.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import claims_table
import notebook_cells
from claims_table import NO_BREAK, SIGNS, plain
from notebook_cells import Figure

TABLE = "docs/figures.toml"
#: Folder of the pictures in the book.
PICTURES = "figures"
_FIELDS = {"id", "paper", "shows", "values", "source", "ours", "differs"}
_SEVERAL = re.compile(r"Figs (\d+), (\d+)")


class FiguresError(Exception):
    """The figures page cannot be made; the message says why in one line."""


def page(root: Path) -> tuple[str, dict[str, bytes]]:
    """The page in Markdown, and its pictures by their path in the book.

    Raises:
        FiguresError: The table names a figure that no notebook shows, or lacks a field.
        ClaimsError: There are no claims.
    """
    ours = {
        f"{figure.notebook}/{figure.name}": figure
        for name, notebook in notebook_cells.load(root).items()
        for figure in notebook_cells.figures(name, notebook)
    }
    entries = load(root, ours)
    claims = claims_table.load(root)
    listed = {key for entry in entries for key in entry["ours"]}
    own = [figure for key, figure in ours.items() if key not in listed]
    lines = [
        "# Figures",
        "Each figure of the paper with what is known of it, and ours beside it. The paper is about"
        " Gemma 3 12B, our figures about a model of fewer than two million parameters: compare"
        " shapes, not heights. “Second-hand” facts were not read in the paper itself. Every name"
        " leads to the cell that draws the figure; our numbers are in the [claims](claims.md)"
        f" named beside it ({', '.join(f'{sign} {word}' for word, sign in SIGNS.items())}).",
        _overview(entries, ours, claims),
        "## The paper's figures, as we draw them",
    ]
    for entry in entries:
        if entry["ours"]:
            lines.append(f"({entry['id']})=\n### {plain(entry['paper'])}: {_short(entry)}")
            lines += [_shown(ours[key]) for key in entry["ours"]]
    lines += [
        "## Our own figures",
        "They have no match in the paper, or check something beside it.",
    ]
    lines += [_shown(figure) for figure in own]
    pictures = {_picture(figure): figure.png for figure in ours.values()}
    return "\n\n".join(lines) + "\n", pictures


def load(root: Path, ours: dict[str, Figure]) -> list[dict[str, Any]]:
    """The paper's figures from the table, each field there and every figure of ours found.

    Raises:
        FiguresError: A field is missing, or ``ours`` names a figure that is not there.
    """
    entries: list[dict[str, Any]] = tomllib.loads((root / TABLE).read_text(encoding="utf-8")).get(
        "figure", []
    )
    for entry in entries:
        if missing := sorted(_FIELDS - set(entry)):
            name = entry.get("id", "a figure")
            raise FiguresError(f"{TABLE}: {name} has no {missing[0]}. Add it, empty if unknown.")
        for key in entry["ours"]:
            if key not in ours:
                notebook = key.partition("/")[0]
                there = [known for known in ours if known.startswith(f"{notebook}/")] or ours
                raise FiguresError(
                    f"{TABLE}: {entry['id']} names {key!r}, which no notebook shows. "
                    f"Choose from {', '.join(there)}."
                )
    return entries


def cited_by(entry: dict[str, Any], claims: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The claims whose source cites a figure."""
    cites = entry.get("cites")
    pattern = re.compile(rf"{re.escape(cites)}(?!\w)") if cites else None
    return [c for c in claims if pattern and pattern.search(_spelled_out(c["source"]))]


def _spelled_out(source: str) -> str:
    """``Figs 2, 3`` as ``Fig. 2, Fig. 3``."""
    return _SEVERAL.sub(r"Fig. \1, Fig. \2", source)


def _overview(
    entries: list[dict[str, Any]], ours: dict[str, Figure], claims: list[dict[str, Any]]
) -> str:
    """One row a figure of the paper."""
    head = ["paper", "what it shows, and its values", "ours", "what differs"]
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for entry in entries:
        number = plain(entry["paper"])
        values = [f"[{plain(value)}]{{.value}}" for value in entry["values"]]
        drawn = [_link(ours[key]) for key in entry["ours"]]
        cited = [
            f"{SIGNS[claim['verdict']]}{NO_BREAK}[{plain(claim['id'])}]"
            f"(claims.md#{claims_table.anchor(claim)})"
            for claim in cited_by(entry, claims)
        ]
        cells = [
            f"[{number}](#{entry['id']})" if drawn else number,
            f"{plain(entry['shows'])} {' '.join(values)} [{plain(entry['source'])}]{{.note}}",
            "<br>".join(drawn or ["–"]) + (f" [Claims: {', '.join(cited)}]{{.note}}" * bool(cited)),
            entry["differs"].replace("|", r"\|"),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "{.figures}\n" + "\n".join(rows)


def _short(entry: dict[str, Any]) -> str:
    """The first part of what a figure shows, as a heading."""
    return plain(re.split(r"[:.(]", entry["shows"])[0].strip())


def _shown(figure: Figure) -> str:
    """A picture with its description and a link to its cell."""
    return f"![{plain(figure.alt)}]({_picture(figure)})\n\n{_caption(figure)} ({_link(figure)})"


def _caption(figure: Figure) -> str:
    """The first sentences of the description: what to see, without the list of what is drawn."""
    return plain(figure.alt.partition("; shows ")[0].rstrip(".")) + "."


def _link(figure: Figure) -> str:
    """The figure's name, leading to its cell."""
    label = f"{figure.notebook[:2]}: {figure.name}"
    return f"[{plain(label)}](notebooks/{figure.notebook}.ipynb#{figure.cell})"


def _picture(figure: Figure) -> str:
    return f"{PICTURES}/{figure.notebook}-{figure.name}.png"
