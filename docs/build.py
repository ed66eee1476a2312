"""Stage the repository's pages, build the site with Sphinx, and check it: ``make book``.

    python docs/build.py            # build/book/src -> build/book/html

Nothing is kept twice in the repository: pages are copied to ``build/book/src``, at the path they
have in the repository, so that links between them stay as they are. Links to other files of the
repository become downloads; links to what a run would write become plain text.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import check_links
import claims_table
import explorer_page
import figures_page
import guide_tables
import search_texts
import slides

ROOT = Path(__file__).resolve().parent.parent
#: Pages other than notebooks and those of docs/, by their path in the repository.
PAGES = ("README.md", "CONTRIBUTING.md", "REPRODUCE.md", "data/testbed/README.md")
LANDING = "index.md"
CLAIMS = "claims.md"
FIGURES = "figures.md"
NOTEBOOKS = "notebooks"
#: Its pages, and the folders of its notebooks.
WORKSHOP = "workshop"
SOLUTIONS = "workshop/solutions"
SESSIONS = ("workshop/exercises", SOLUTIONS)
#: Where files lie that are offered as they are; Sphinx reads no pages from it.
DOWNLOADS = "download"
#: Written by runs, so not there in a fresh clone.
GENERATED = ("results", "build")
PICTURES = (".png", ".jpg", ".jpeg", ".svg", ".gif")

_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_LINK = re.compile(r"(`+[^`]*`+)|(!?)\[([^\]]*)\]\(([^()\s]+)((?:\s+\"[^\"]*\")?)\)")
_INTERVAL = re.compile(r"\[(-?[\d.,]+), (-?[\d.,]+)\](?!\()")
_EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:|//|#", re.IGNORECASE)


class BookError(Exception):
    """The book cannot be built; the message says why in one line."""


@dataclass
class Staged:
    """The pages of the book, the files they need, and what is wrong with their links."""

    root: Path
    pages: frozenset[str]
    needed: dict[str, str] = field(default_factory=dict)  # path in src: path in the repository
    pictures: dict[str, bytes] = field(default_factory=dict)  # from the notebooks' outputs
    problems: list[str] = field(default_factory=list)

    def target(self, page: str, link: str) -> str | None:
        """What a relative link on a page becomes in the book; None: no link."""
        path, hash_sign, anchor = link.partition("#")
        folder = PurePosixPath(page).parent
        name = os.path.normpath(folder / path).replace(os.sep, "/")
        if name.startswith("..") or name.split("/")[0] in GENERATED:
            return None
        source = self.root / name
        if source.is_dir():
            name = os.path.normpath(f"{name}/README.md").replace(os.sep, "/")
            if name not in self.pages:
                return None
        if name not in self.pages and name not in self.pictures:
            if not source.is_file():
                self.problems.append(f"{page}: there is no {link}")
                return None
            placed = name if source.suffix.lower() in PICTURES else f"{DOWNLOADS}/{name}"
            self.needed[placed] = name
            name = placed
        return os.path.relpath(name, folder).replace(os.sep, "/") + hash_sign + anchor

    def rewrite(self, page: str, text: str) -> str:
        """Markdown of a page with links that work in the book; code is left alone."""

        def replace(match: re.Match[str]) -> str:
            code, picture, label, link, title = match.groups()
            if code or _EXTERNAL.match(link):
                return match[0]
            target = self.target(page, link)
            if target is None:
                return label
            path = target.partition("#")[0]
            if f"{DOWNLOADS}/" in path and path.endswith((".md", ".ipynb")):
                return f"{{download}}`{label} <{path}>`"  # a link would ask for such a page
            return f"{picture}[{label}]({target}{title})"

        lines = []
        for line, is_code in _with_code(text):
            if not is_code:
                line = _LINK.sub(replace, line)
                if line.startswith("|"):  # narrow cells break between value and interval only
                    line = _INTERVAL.sub("[\\1,\N{NO-BREAK SPACE}\\2]", line)
            lines.append(line)
        return "".join(lines)


def _with_code(text: str) -> Iterator[tuple[str, bool]]:
    """Every line, and whether it belongs to a fenced block."""
    fence = ""
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if fence:
            yield line, True
            closing = mark is not None and line.strip().startswith(fence)
            fence = "" if closing and not line.strip().strip(fence[0]) else fence
        else:
            fence = mark[1] if mark else ""
            yield line, mark is not None


def stage(root: Path, src: Path, landing: str) -> Staged:
    """Copy all pages and what they need to an empty folder.

    Raises:
        BookError: A page is missing, or a link leads to no file.
    """
    own = _names(root, NOTEBOOKS, "*.ipynb")
    notebooks = [*own, *(name for folder in SESSIONS for name in _names(root, folder, "*.ipynb"))]
    further = [*_names(root, "docs", "*.md"), *_names(root, WORKSHOP, "*.md")]
    guide = [path.relative_to(root).as_posix() for path in guide_tables.pages(root)]
    further += guide
    pages = [*PAGES, *(page for page in further if page != f"docs/{LANDING}"), *notebooks]
    missing = [page for page in pages if not (root / page).is_file()]
    if missing or not own:
        raise BookError(f"not found: {', '.join(missing) or NOTEBOOKS + '/*.ipynb'}")
    staged = Staged(root, frozenset([*pages, LANDING, CLAIMS, FIGURES]))
    texts = {page: (root / page).read_text(encoding="utf-8") for page in pages}
    try:
        texts[CLAIMS] = claims_table.page(root)
        texts[FIGURES], staged.pictures = figures_page.page(root)
        known = guide_tables.sources(root)
        texts |= {page: guide_tables.filled(texts[page], known) for page in guide}
    except (
        claims_table.ClaimsError,
        figures_page.FiguresError,
        guide_tables.GuideError,
    ) as error:
        raise BookError(str(error)) from error
    texts[LANDING] = landing
    for page, text in texts.items():
        if page in notebooks:
            staged.needed[f"{DOWNLOADS}/{page}"] = page
            text = stage_notebook(staged, page, text)
        else:
            text = staged.rewrite(page, text)
        _write(src / page, text)
    if staged.problems:
        raise BookError("\n".join(staged.problems))
    for placed, name in staged.needed.items():
        (src / placed).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, src / placed)
    for placed, content in staged.pictures.items():
        (src / placed).parent.mkdir(parents=True, exist_ok=True)
        (src / placed).write_bytes(content)
    return staged


def _names(root: Path, folder: str, pattern: str) -> list[str]:
    """Files of one folder of the repository, in order."""
    return [f"{folder}/{path.name}" for path in sorted((root / folder).glob(pattern))]


def stage_notebook(staged: Staged, page: str, text: str) -> str:
    """A notebook with the book's links, and a link to the file itself below its title."""
    notebook: dict[str, Any] = json.loads(text)
    written = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    for cell in written:
        cell["source"] = staged.rewrite(page, "".join(cell["source"]))
    if not written or not written[0]["source"].startswith("# "):
        raise BookError(f"{page}: the first text cell does not start with a title")
    title, _, rest = written[0]["source"].partition("\n")
    if page.startswith(SOLUTIONS):  # both notebooks of a session begin with the same words
        title += " (solutions)"
    up = "../" * page.count("/")
    link = f"{{download}}`Download this notebook <{up}{DOWNLOADS}/{page}>`"
    written[0]["source"] = f"{title}\n\n{{.source-link}}\n{link}\n{rest}"
    return json.dumps(notebook, ensure_ascii=False)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def build(root: Path, out: Path) -> list[str]:
    """Build the book below a folder, and return what the link checker finds.

    Raises:
        BookError: The pages cannot be staged, Sphinx fails or warns, or there is too much text.
    """
    src, html, docs = out / "src", out / "html", root / "docs"
    # From nothing every time: a notebook that was renamed leaves no page behind.
    shutil.rmtree(out, ignore_errors=True)
    stage(root, src, (docs / LANDING).read_text(encoding="utf-8"))
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    command += ["-c", str(docs), "-d", str(out / "doctrees"), str(src), str(html)]
    if subprocess.run(command, check=False).returncode:
        raise BookError("Sphinx could not build the book; see above")
    try:
        search_texts.write(html)
        slides.write(root, html)  # after the search, which finds the same words in the exercises
        if (root / explorer_page.DATA).is_file():  # else a link to it is a broken one
            _write(html / explorer_page.PAGE, explorer_page.page(root))
    except (search_texts.TooLargeError, explorer_page.ExplorerError) as error:
        raise BookError(str(error)) from error
    return check_links.problems(html)


def main() -> int:
    """Build, check, and say how long it took and what to open; 1 if anything is wrong."""
    start = time.perf_counter()
    out = ROOT / "build" / "book"
    try:
        found = build(ROOT, out)
    except BookError as error:
        print(f"book: {error}", file=sys.stderr)
        return 1
    if found:
        print("\n".join(found), file=sys.stderr)
        return 1
    seconds = time.perf_counter() - start
    pages = len(list((out / "html").rglob("*.html")))
    opened = (out / "html" / "index.html").relative_to(ROOT)
    print(f"{pages} pages in {seconds:.0f} s, every link checked. Open {opened} in a browser.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
