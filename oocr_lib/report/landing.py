"""Results in the prose: one command brings pages and notebooks in line with the numbers.

    python -m oocr_lib.report.landing write --from results/laptop  # new references, prose
    python -m oocr_lib.report.landing write                        # the prose, from the references
    python -m oocr_lib.report.landing check                        # code 1 if anything is wrong

References are the numbers of one full run in preset ``laptop``, committed so that a fresh clone can
check its prose: ``data/reference/laptop/<notebook>/metrics.json`` and ``claims.json`` beside them.
``write`` puts the summary of the claims between the two comments on the first pages, and corrects
every marked number (see ``prose``). Sentences whose verdict has changed are left to a person: they
are printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat

from oocr_lib.report import claim_file, claims, claims_page, metrics, prose
from oocr_lib.util import files as store
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT

REFERENCES = Path("data", "reference", "laptop")
CLAIMS = "claims.json"
BEGIN, END = "<!-- findings:begin -->", "<!-- findings:end -->"
#: Pages that begin with the findings; their links count from the repository's root.
FIRST_PAGES = ("README.md", "docs/index.md")
#: Claims of the summary, one for each thing that the paper is about, and short words for them.
HEADLINES = {
    "vector-locations": "One vector (residual stream), trained on hints, says what they never say",
    "vector-risk": "Trained on risky choices, it says that it likes risk (p of the word)",
    "lora-constant-where-read": "Where the answer is read, a LoRA adds mostly one constant vector",
    "backdoor-vector-fits": "An unconditional vector follows a conditional rule",
    "naive-vector-works": "The obvious vector, real name minus code name, works as well",
}
#: Metrics whose name says less than these words.
_WORDS = {"all": "all questions"}


def findings(content: dict[str, Any]) -> str:
    """The summary in Markdown, from the content of ``claims.json``.

    Raises:
        UserError: a headline's claim is not there.
    """
    by_id = {claim["id"]: claim for claim in content["claims"]}
    if missing := [name for name in HEADLINES if name not in by_id]:
        raise UserError(
            f"There is no claim {missing[0]!r} in {CLAIMS}. Give the summary another headline, or "
            "write the references again."
        )
    counts, total = content["counts"], len(by_id)
    withdrawn = counts.get(claims.WITHDRAWN, 0)
    is_are = "is" if withdrawn == 1 else "are"
    lines = [
        f"Of {total} statements by the paper and its readers, **{counts['holds']} hold** on the "
        f"small model, **{counts['does not hold']} do not hold**, {counts['undecided']} are "
        f"undecided and {counts['not run']} were not run"
        f"{f'; {withdrawn} {is_are} withdrawn, with the reason' if withdrawn else ''} "
        "([all of them](notebooks/11_claims.ipynb)). Five of them:",
        "",
        "| statement | paper | ours | verdict | notebook |",
        "|---|---|---|---|---|",
    ]
    for name, statement in HEADLINES.items():
        claim = by_id[name]
        word, first = claim["verdict"], claim["checks"][0]["notebook"]
        cells = [
            statement,
            claim["paper_value"].replace("|", r"\|"),
            _measured(claim["checks"]),
            f"{claims_page.SIGNS[word]} {word}<br>`{claim['checks'][0]['rule']}`",
            f"[{first[:2]}](notebooks/{first}.ipynb)",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Ours: means over runs with 95 % intervals and the rule that decides, on a model of fewer"
        " than two million parameters; the paper: Gemma 3 12B. “Second-hand” values were not read"
        " in the paper itself.",
    ]
    return "\n".join(lines)


def _measured(checks: Sequence[dict[str, Any]]) -> str:
    """The numbers of a claim, each with the first word of its metric if there are several."""
    numbers = []
    for check in checks:
        text = "not run" if check["value"] is None else f"{check['value']:z.2f}"
        if check["ci"] is not None and check["ci"][0] != check["ci"][1]:
            text += " [{:z.2f}, {:z.2f}]".format(*check["ci"])
        name = check["metric"].split("/")[0]
        if name == "fitted" and check["value"] is not None:  # a count, not a mean
            text = f"{check['value']:.0f} of {check['n']} triggers"
        if len(checks) > 1:
            text = f"{_WORDS.get(name, name.replace('_', ' '))}: {text}"
        numbers.append(text)
    return "<br>".join(numbers)


def refresh(measured: Path, root: Path) -> list[str]:
    """Take the numbers and verdicts of a run as the references; return the notebooks' names.

    Args:
        measured: results of preset ``laptop`` with default parameters, for instance
            ``results/laptop``.

    Raises:
        UserError: results that cannot be read, that lack a notebook, or of another preset.
    """
    verdicts = claims.judge(claim_file.load(), measured)
    notebooks = {path.stem for path in (root / "notebooks").glob("*.ipynb")}
    available = {path.parent.name for path in measured.glob(f"*/{metrics.FILE}")}
    if lacking := sorted(notebooks - available):
        raise UserError(
            f"{measured} has no numbers of {', '.join(lacking)}. The references are of one full"
            " run: python -m oocr_lib.batch --all."
        )
    for name in sorted(notebooks):
        preset = metrics.load(measured / name / metrics.FILE).params.get("preset")
        if preset != "laptop":
            raise UserError(f"{measured}/{name} has preset {preset!r}. Allowed: laptop.")
    names = metrics.refresh(measured, root / REFERENCES)
    store.write_json(root / REFERENCES / CLAIMS, claims_page.to_json(verdicts))
    return names


def texts(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Every text that is checked: its file, the id of its cell (empty for a page), the text."""
    pages = [root / "README.md", root / "REPRODUCE.md", *sorted((root / "docs").rglob("*.md"))]
    for page in (page for page in pages if page.is_file()):
        yield page, "", page.read_text(encoding="utf-8")
    for notebook in sorted((root / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(notebook, as_version=4).cells:
            if cell.cell_type == "markdown":
                yield notebook, cell.id, cell.source


def bring_in_line(root: Path, write: bool) -> list[str]:
    """Everything in the prose that disagrees with the references, one line each.

    Args:
        write: correct what can be corrected, and return only what a person must correct.

    Raises:
        UserError: references that are missing or cannot be read.
    """
    content = store.read_json(root / REFERENCES / CLAIMS)
    words = {claim["id"]: claim["verdict"] for claim in content["claims"]}
    numbers = prose.Numbers(root / REFERENCES, words)
    problems: list[str] = []
    changed: dict[Path, dict[str, str]] = {}
    for path, cell, text in texts(root):
        name = path.relative_to(root).as_posix()
        where = f"{name}, cell {cell}" if cell else name
        new = text
        if name in FIRST_PAGES:
            new = _with_findings(text, content, where)
            if new != text and not write:
                problems.append(f"{where}: the findings are not those of {CLAIMS}")
        new, mistakes = prose.corrected(new, numbers)
        if write:
            mistakes = prose.corrected(new, numbers)[1]
            if new != text:
                changed.setdefault(path, {})[cell] = new
        mistakes += prose.unmarked(new)
        problems += [f"{where}, {problem}" for problem in mistakes]
    for path, cells in changed.items():
        _save(path, cells)
    return problems


def _with_findings(text: str, content: dict[str, Any], where: str) -> str:
    """A page with the summary between its two comments."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"{where} lacks the lines {BEGIN} and {END}. Put them where it belongs.")
    return f"{before}{BEGIN}\n\n{findings(content)}\n\n{END}{after}"


def _save(path: Path, new: dict[str, str]) -> None:
    """Write new texts of a page (id "") or of cells of a notebook."""
    if path.suffix == ".ipynb":
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            cell.source = new.get(cell.id, cell.source)
        text = nbformat.writes(notebook).rstrip("\n") + "\n"
    else:
        text = new[""]
    with store.atomic_path(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 if the prose agrees, 1 if it does not, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m oocr_lib.report.landing",
        description="Bring the prose in line with the numbers.",
    )
    parser.add_argument("action", choices=("write", "check"))
    text = "with write: results whose numbers become the references, for instance results/laptop"
    parser.add_argument("--from", dest="measured", type=Path, metavar="FOLDER", help=text)
    options = parser.parse_args(arguments)
    try:
        if options.measured and options.action == "check":
            raise UserError("--from goes with write. Leave it out, or write the references.")
        if options.measured:
            names = refresh(options.measured, ROOT)
            print(f"Refreshed {REFERENCES.as_posix()}: {', '.join(names)}")
        problems = bring_in_line(ROOT, write=options.action == "write")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for problem in problems:
        print(problem)
    print(f"{len(problems) or 'no'} problem{'s' if len(problems) != 1 else ''} in the prose")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
