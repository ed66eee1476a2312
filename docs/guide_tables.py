"""Tables of the guide: claims with their verdicts, and the paper's figures beside ours.

    python docs/guide_tables.py write    # bring docs/guide in line with the references
    python docs/guide_tables.py check    # code 1 if a table says something else

A table stands between two comments; what is between them is written by code alone:

    <!-- claims: vector-risk vector-safety -->     a row a claim; others: those that no page names
    <!-- figure: fig-2 -->                         a figure of docs/figures.toml
    <!-- end -->

Verdicts and values come from the references (as on the claims page), the cells that make them from
the committed notebooks. Numbers in the prose between have marks (``oocr_lib.report.prose``).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import claims_table
import figures_page
import notebook_cells
from claims_table import SIGNS, plain

FOLDER = "docs/guide"
#: From a page of the guide to the repository's root.
UP = "../../"
#: Stands for all claims that no page names, so that a new one is never left out.
OTHERS = "others"
_BLOCK = re.compile(r"<!-- (claims|figure): ([^\n]*?) -->\n.*?<!-- end -->", re.DOTALL)


class GuideError(Exception):
    """A page of the guide names what is not there; the message says what in one line."""


@dataclass(frozen=True)
class Sources:
    """What tables are made of: claims and figures by their names, and the notebooks.

    Attributes:
        others: claims that no page names.
    """

    claims: dict[str, dict[str, Any]]
    figures: dict[str, dict[str, Any]]
    drawn: dict[str, notebook_cells.Figure]
    notebooks: dict[str, dict[str, Any]]
    others: tuple[str, ...] = ()


def sources(root: Path) -> Sources:
    """Everything that tables are made of.

    Raises:
        ClaimsError: no claims, or other verdicts than notebook 11 shows.
        FiguresError: the table of figures names one that no notebook shows.
    """
    notebooks = notebook_cells.load(root)
    drawn = {
        f"{figure.notebook}/{figure.name}": figure
        for name, notebook in notebooks.items()
        for figure in notebook_cells.figures(name, notebook)
    }
    claims = {claim["id"]: claim for claim in claims_table.load(root)}
    figures = {entry["id"]: entry for entry in figures_page.load(root, drawn)}
    told = {n for path in pages(root) for n in named(path.read_text(encoding="utf-8"), "claims")}
    others = tuple(name for name in claims if name not in told)
    return Sources(claims, figures, drawn, notebooks, others)


def pages(root: Path) -> Iterator[Path]:
    """The guide's pages, in order."""
    yield from sorted((root / FOLDER).glob("*.md"))


def named(text: str, kind: str) -> list[str]:
    """What the tables of a page are about, in order; ``kind`` is claims or figure."""
    return [
        name for found, names in _BLOCK.findall(text) if found == kind for name in names.split()
    ]


def filled(text: str, known: Sources) -> str:
    """A page with the tables that the references give.

    Raises:
        GuideError: a claim or figure that there is not, or a table without its end.
    """

    def table(match: re.Match[str]) -> str:
        kind, names = match[1], match[2].split()
        if names == [OTHERS]:
            names = list(known.others)
        there: dict[str, Any] = known.claims if kind == "claims" else known.figures
        if wrong := [name for name in names if name not in there]:
            allowed = ", ".join(there)
            raise GuideError(f"the guide names {kind} {wrong[0]!r}. Choose from {allowed}.")
        chosen = [there[name] for name in names]
        if not chosen:
            return f"<!-- {kind}: {match[2]} -->\n\nNone.\n\n<!-- end -->"
        rows = _claims(chosen, known) if kind == "claims" else _figures(chosen, known)
        return f"<!-- {kind}: {match[2]} -->\n\n" + "\n".join(rows) + "\n\n<!-- end -->"

    made = _BLOCK.sub(table, text)
    if len(re.findall("<!-- (?:claims|figure|end)\\b", made)) != 2 * len(_BLOCK.findall(made)):
        raise GuideError("a table of the guide has no <!-- end -->, or one too many.")
    return made


def _claims(claims: Sequence[dict[str, Any]], known: Sources) -> list[str]:
    """A row a claim: what is said, the paper's value, ours with the rule, the verdict."""
    rows = ["| statement | paper | ours, rule, and the cell that shows it | verdict |"]
    rows.append("|" + "---|" * 4)
    for claim in claims:
        word = claim["verdict"]
        ours = "<br>".join(_check(check, known) for check in claim["checks"])
        cells = [plain(claim["statement"]), plain(claim["paper_value"]), ours]
        rows.append(f"| {' | '.join(cells)} | {SIGNS[word]} **{word}** |")
    return rows


def _check(check: dict[str, Any], known: Sources) -> str:
    name, metric = check["notebook"], check["metric"]
    cell = notebook_cells.maker(known.notebooks[name], metric)
    target = f"{UP}notebooks/{name}.ipynb" + (f"#{cell}" if cell else "")
    label = f"{name[:2]}: {plain(metric)}"
    return f"{plain(claims_table.value(check))} (`{check['rule']}`) [{label}]({target})"


def _figures(entries: Sequence[dict[str, Any]], known: Sources) -> list[str]:
    """What a figure of the paper shows, beside ours."""
    rows: list[str] = []
    for entry in entries:
        rows += ["" for _ in rows[:1]]
        rows += [f"| {plain(entry['paper'])} | |", "|---|---|"]
        links = [
            f"[{plain(key)}]({UP}notebooks/{key.partition('/')[0]}.ipynb#{known.drawn[key].cell})"
            for key in entry["ours"]
        ]
        values = "<br>".join(plain(value) for value in entry["values"])
        rows += [
            f"| it shows | {plain(entry['shows'])} |",
            f"| its values | {values or 'not known'} |",
            f"| how we know | {plain(entry['source'])} |",
            f"| ours | {', '.join(links)} |",
            f"| what differs | {entry['differs'].replace('|', chr(92) + '|')} |",
        ]
    return rows


def bring_in_line(root: Path, write: bool) -> list[str]:
    """Pages whose tables are not what the references give, one line each.

    Args:
        write: correct them; then nothing is returned.
    """
    known, problems = sources(root), []
    for path in pages(root):
        text = path.read_text(encoding="utf-8")
        wanted = filled(text, known)
        if wanted != text and write:
            path.write_text(wanted, encoding="utf-8", newline="\n")
        elif wanted != text:
            problems.append(f"{path.relative_to(root).as_posix()}: a table is out of date")
    return problems


def main(arguments: Sequence[str]) -> int:
    """Command line: 0 the tables agree, 1 they do not, 2 bad input."""
    root = Path(__file__).resolve().parent.parent
    if list(arguments) not in (["write"], ["check"]):
        print("Allowed: python docs/guide_tables.py write, or check.", file=sys.stderr)
        return 2
    try:
        problems = bring_in_line(root, write=arguments[0] == "write")
    except (GuideError, claims_table.ClaimsError, figures_page.FiguresError) as error:
        print(error, file=sys.stderr)
        return 2
    for problem in problems:
        print(problem)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
