"""The website of ``make book``: staging, the link checker, and one tiny site."""

from __future__ import annotations

import base64
import html
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oocr_lib.util.paths import ROOT

DOCS = ROOT / "docs"
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg"
    "=="
)
CLAIM = """
[[claim]]
id = "{0}"
statement = "A *starred* statement | with a bar."
source = "section 3"
paper_value = "0.7"
notebook = "00_quickstart"
metric = "all/mc"
rule = "value >= 0.8"
also = [{{ notebook = "07_later", metric = "x", rule = "> 0" }}]
"""
INDEX = """# Start

```{toctree}
:glob:

notebooks/*
claims
figures
README
CONTRIBUTING
REPRODUCE
data/testbed/README
```
"""
FIGURES = """
[[figure]]
id = "fig-2"
paper = "Fig. 2"
shows = "Bars | of *accuracy*: base and vector."
values = ["0.7 (layer 3)"]
source = "second-hand"
ours = ["00_quickstart/bars"]
cites = "section 3"
differs = "See the [first page](index.md)."
"""
DRAWN = """exp.metrics.add(f"all/{method}/mc", measured)
exp.figure(plots.bars(table), "bars", "Bars.", data="bars")
"""
TABLE = """     claim        source       verdict  checks
 first-one     section 3 does not hold       2
second-one Fig. 2; note       holds       1
"""


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of docs/, which is no package."""
    monkeypatch.syspath_prepend(str(DOCS))
    spec = importlib.util.spec_from_file_location(f"book_{name}", DOCS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("build", monkeypatch)


@pytest.fixture
def checker(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("check_links", monkeypatch)


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def notebook(text: str, *outputs: dict[str, Any], code: str = "x = 1") -> str:
    """A notebook of one text cell and one executed code cell."""
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": text.splitlines(True)},
        {"cell_type": "code", "id": "made-b", "metadata": {}, "source": code.splitlines(True),
         "execution_count": 1, "outputs": list(outputs)},
    ]  # fmt: skip
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def printed(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text.splitlines(True)}


def figure(alt: str) -> dict[str, Any]:
    metadata = {"image/png": {"alt": alt}}
    return {"output_type": "display_data", "data": {"image/png": PNG}, "metadata": metadata}


def measured_claim() -> dict[str, Any]:
    """What the references say of the first claim."""
    number = {"value": 0.7049, "ci": [0.6, 0.81], "n": 12, "rule": "value >= 0.8"}
    first = {"notebook": "00_quickstart", "metric": "all/mc", **number}
    also = {"notebook": "07_later", "metric": "x", "rule": "> 0", "value": 1, "ci": None, "n": None}
    return {"id": "first-one", "verdict": "does not hold", "checks": [first, also]}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A made-up repository with everything that the book takes."""
    root = tmp_path / "repository"
    write(root / "README.md", "# Readme\n\n[quick](notebooks/00_quickstart.ipynb)"
          " [licence](LICENSE) [made by a run](results/x.csv) [folder](data/testbed)\n"
          "`[code](nowhere.md)`\n\n```\n[fence](nowhere.md)\n```\n")  # fmt: skip
    write(root / "LICENSE", "free")
    write(root / "CONTRIBUTING.md", "# How to add one\n")
    write(root / "REPRODUCE.md", "# Numbers\n\n## Part one\n\n| a |\n|---|\n| 0.5 [0.1, -0.2] |\n")
    write(root / "data/testbed/README.md", "# Card\n\n[numbers](../../REPRODUCE.md#part-one)\n")
    write(root / "data/claims.toml", CLAIM.format("first-one") + CLAIM.format("new-one"))
    write(root / "data/reference/laptop/claims.json", json.dumps({"claims": [measured_claim()]}))
    write(root / "data/reference/figures/locations_methods.png", base64.b64decode(PNG))
    write(root / "docs/figures.toml", FIGURES)
    text = "# Quickstart\n\nSee [numbers](../REPRODUCE.md#part-one).\n\n## Drawn\n\n"
    text += "One steering vector for City 50337: `<img src=y>`.\n"
    outputs = figure('Bars & a "line"'), printed("Hello there\n")
    write(root / "notebooks/00_quickstart.ipynb", notebook(text, *outputs, code=DRAWN))
    write(root / "notebooks/11_claims.ipynb", notebook("# Claims\n", printed(TABLE)))
    return root


def test_staging_keeps_working_links_and_drops_those_to_results(
    book: ModuleType, repository: Path, tmp_path: Path
) -> None:
    src = tmp_path / "src"
    book.stage(repository, src, "# Start\n")
    readme = (src / "README.md").read_text()
    assert "[quick](notebooks/00_quickstart.ipynb)" in readme
    assert "[licence](download/LICENSE) made by a run [folder](data/testbed/README.md)" in readme
    assert "`[code](nowhere.md)`" in readme and "\n[fence](nowhere.md)\n" in readme
    assert (src / "download/LICENSE").read_text() == "free"
    assert "0.5 [0.1,\N{NO-BREAK SPACE}-0.2]" in (src / "REPRODUCE.md").read_text()
    assert (src / "index.md").read_text() == "# Start\n"


def test_a_staged_notebook_offers_its_source_unchanged(
    book: ModuleType, repository: Path, tmp_path: Path
) -> None:
    src, name = tmp_path / "src", "notebooks/00_quickstart.ipynb"
    book.stage(repository, src, "# Start\n")
    source = json.loads((src / name).read_text())["cells"][0]["source"]
    assert source.startswith("# Quickstart\n")
    assert f"{{download}}`Download this notebook <../download/{name}>`" in source
    assert "[numbers](../REPRODUCE.md#part-one)" in source
    assert (src / "download" / name).read_bytes() == (repository / name).read_bytes()


def test_a_link_to_no_file_stops_the_book(
    book: ModuleType, repository: Path, tmp_path: Path
) -> None:
    write(repository / "README.md", "# Readme\n\n[gone](docs/gone.md#there)\n")
    with pytest.raises(book.BookError, match=r"README.md: there is no docs/gone.md#there"):
        book.stage(repository, tmp_path / "src", "# Start\n")


def test_a_missing_page_stops_the_book(book: ModuleType, repository: Path, tmp_path: Path) -> None:
    (repository / "REPRODUCE.md").unlink()
    with pytest.raises(book.BookError, match=r"not found: REPRODUCE\.md"):
        book.stage(repository, tmp_path / "src", "# Start\n")


def test_the_real_pages_have_no_dead_links(book: ModuleType, tmp_path: Path) -> None:
    staged = book.stage(ROOT, tmp_path / "src", (DOCS / "index.md").read_text())
    assert {"docs/glossary.md", "docs/paths.md"} <= staged.pages
    assert {"workshop/instructor.md", "workshop/solutions/c_doubt.ipynb"} <= staged.pages
    assert "docs/index.md" not in staged.pages  # it is the first page
    assert (tmp_path / "src/docs/method.svg").is_file()


def test_claims_have_values_verdicts_and_the_cell_that_makes_them(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = load("claims_table", monkeypatch)
    content = json.loads((repository / "notebooks/11_claims.ipynb").read_text())
    words = {"first-one": "does not hold", "second-one": "holds"}
    assert claims.verdicts(content) == words
    shown = {"output_type": "display_data", "data": {"text/plain": TABLE.splitlines(True)}}
    assert claims.verdicts(json.loads(notebook("# Claims\n", shown))) == words
    page = claims.page(repository)
    first, new = (line for line in page.splitlines() if "-one`" in line)
    assert r"[A \*starred\* statement \| with a bar.]{#claim-first-one}" in first
    assert "[✗ does not hold]{.verdict .does-not-hold}" in first
    assert "**0.70 [0.60, 0.81], n\N{NO-BREAK SPACE}12**" in first and "**1.00**" in first
    assert "`value\N{NO-BREAK SPACE}>=\N{NO-BREAK SPACE}0.8`" in first
    assert "[00: all/mc](notebooks/00_quickstart.ipynb#made-b){.made}" in first
    assert r"07\_later: x]" in first and "(notebooks/07_later" not in first  # not there: no link
    assert "not run]{.verdict .not-run}" in new and "**not run**" in new


def test_counts_have_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = load("claims_table", monkeypatch)
    check = {"metric": "leaks/base/count", "value": 3.0, "ci": [3.0, 3.0], "n": 20000}
    assert claims.value(check) == "3 of 20,000"
    assert claims.value(check | {"metric": "x/base/shift", "value": -0.001}).startswith("0.00 [3")


def test_claims_that_contradict_their_notebook_stop_the_book(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = load("claims_table", monkeypatch)
    other = {"claims": [measured_claim() | {"verdict": "holds"}]}
    write(repository / "data/reference/laptop/claims.json", json.dumps(other))
    with pytest.raises(claims.ClaimsError, match=r"first-one: .* 'does not hold', .* 'holds'"):
        claims.page(repository)
    (repository / "data/reference/laptop/claims.json").unlink()
    with pytest.raises(claims.ClaimsError, match=r"without data/reference/laptop/claims\.json"):
        claims.page(repository)
    write(repository / "notebooks/11_claims.ipynb", notebook("# Claims\n"))
    write(repository / "data/reference/laptop/claims.json", json.dumps(other))
    with pytest.raises(claims.ClaimsError, match="no table of verdicts"):
        claims.page(repository)


def test_a_newer_rule_has_not_been_run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = load("claims_table", monkeypatch)
    rules = CLAIM.format("first-one").replace(">= 0.8", ">= 0.6")
    write(repository / "data/claims.toml", rules)
    (claim,) = claims.load(repository)
    assert claim["verdict"] == "not run" and claim["checks"][0]["value"] is None


GOOD = """<html><head><link rel="stylesheet" href="style.css?v=1"></head><body>
<h1 id="top%20one">A</h1><a href="sub/b.html#x">b</a><a href="#">up</a><a href="sub/">b</a>
<a href="https://example.org/#no">elsewhere</a><img src="p.png" alt="A dot"><a name="old"></a>
<a href="#old">old</a><a href="mailto:a@b.c">mail</a></body></html>"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two pages without any problem."""
    root = tmp_path / "html"
    write(root / "index.html", GOOD)
    write(root / "style.css", "body { background: url(p.png) }")
    write(root / "p.png", base64.b64decode(PNG))
    write(root / "sub/index.html", "<p>index</p>")
    write(root / "sub/b.html", '<p id="x"><a href="../index.html">back</a></p>')
    return root


def test_a_good_site_has_no_problem(checker: ModuleType, site: Path) -> None:
    assert checker.problems(site) == []
    assert checker.main([str(site)]) == 0


@pytest.mark.parametrize(
    ("planted", "problem"),
    [
        ('<a href="c.html">', "broken link: c.html"),
        ('<a href="b.html#y">', "missing anchor: b.html#y"),
        ('<a href="#y">', "missing anchor: #y"),
        ('<a href="../../out.html">', "link out of the site: ../../out.html"),
        ('<a href="">', "empty link: "),
        ('<img src="../p.png">', "image without alt text: ../p.png"),
        ('<img src="../p.png" alt=" ">', "image without alt text: ../p.png"),
        ('<img src="gone.png" alt="A dot"/>', "broken link: gone.png"),
        ('<script src="https://example.org/x.js">', "loaded from elsewhere: https://example.org/"),
        ('<link rel="stylesheet" href="//example.org/x">', "loaded from elsewhere: //example.org"),
    ],
)
def test_every_planted_problem_is_one_line(
    checker: ModuleType, site: Path, capsys: pytest.CaptureFixture[str], planted: str, problem: str
) -> None:
    write(site / "sub/planted.html", f"<p>\n{planted}</p>")
    assert checker.main([str(site)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"sub/planted.html:2: {problem}")


def test_styles_from_elsewhere_and_empty_sites_are_problems(
    checker: ModuleType, site: Path, tmp_path: Path
) -> None:
    write(site / "style.css", '@import "https://example.org/font.css";')
    assert checker.problems(site) == [
        "style.css: loaded from elsewhere: https://example.org/font.css"
    ]
    (tmp_path / "empty").mkdir()
    assert checker.problems(tmp_path / "empty") == ["empty: no HTML file"]


def test_columns_scroll_and_prose_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    conf = load("conf", monkeypatch)
    assert conf.is_prose("One long line.\n  An indented one.\n")
    assert not conf.is_prose("name   value\nbase   0.2\nchosen: base\n")


def tiny(book: ModuleType, repository: Path, problems: tuple[str, ...] = ()) -> Path:
    """The folder of a tiny book, built by Sphinx; by default it has no problems."""
    for package in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(package)
    # Its own first page and figures: the real ones are about notebooks that are not there.
    skipped = shutil.ignore_patterns("__pycache__", "*.md", "figures.toml")
    shutil.copytree(DOCS, repository / "docs", ignore=skipped, dirs_exist_ok=True)
    write(repository / "docs/index.md", INDEX)
    out = repository.parent / "book"
    assert [problem.partition(": ")[2] for problem in book.build(repository, out)] == [*problems]
    return out


def test_a_tiny_book_is_built_without_a_problem(book: ModuleType, repository: Path) -> None:
    out = tiny(book, repository)
    page = (out / "html/notebooks/00_quickstart.html").read_text()
    assert 'alt="Bars &amp; a &quot;line&quot;"' in page and "Hello there" in page
    assert 'id="made-b"' in page
    assert list((out / "html/_downloads").glob("*/00_quickstart.ipynb"))
    assert (out / "html/searchindex.js").is_file()
    claims = (out / "html/claims.html").read_text()
    assert 'id="claim-first-one"' in claims
    assert 'href="notebooks/00_quickstart.html#made-b"' in claims
    figures = (out / "html/figures.html").read_text()
    assert 'href="claims.html#claim-first-one"' in figures and 'id="fig-2"' in figures
    assert 'href="notebooks/00_quickstart.html#made-b"' in figures
    assert 'alt="Bars &amp; a &quot;line&quot;"' in figures
    assert "search_texts.js" in (out / "html/search.html").read_text()
    assert "search_texts.js" not in claims  # only where it is needed
    assert not (out / "html/explorer.html").exists()  # no numbers, no explorer
    broken = notebook("# Quickstart\n", figure(""), code=DRAWN)
    write(repository / "notebooks/00_quickstart.ipynb", broken)
    found = book.build(repository, out)
    assert len(found) == 2 and all("without alt text" in problem for problem in found)
    assert found[1].startswith("notebooks/00_quickstart.html:")


def test_pages_outside_the_book_are_downloads(
    book: ModuleType, repository: Path, tmp_path: Path
) -> None:
    write(repository / "workshop/play.ipynb", "{}")
    write(repository / "docs/paths.md", "# Ways\n\n[play](../workshop/play.ipynb#now)\n")
    staged = book.stage(repository, tmp_path / "src", "# Start\n")
    text = (tmp_path / "src/docs/paths.md").read_text()
    assert "{download}`play <../download/workshop/play.ipynb>`" in text
    assert staged.needed["download/workshop/play.ipynb"] == "workshop/play.ipynb"


def test_the_book_has_the_explorer_where_its_numbers_are(
    book: ModuleType, repository: Path
) -> None:
    write(repository / "data/explorer.json", '{"schema": 1}')
    write(repository / "data/world/coastlines.csv", "polygon,longitude,latitude\nisle,1,2\n")
    # What it links is not in this tiny book, and the link checker reads it as any other page.
    gone = ("docs/explorer.html", "notebooks/03_locations.html")
    out = tiny(book, repository, tuple(f"broken link: {name}" for name in gone))
    assert 'd="M1 -2Z"' in (out / "html/explorer.html").read_text()


def test_slides_are_one_file_without_scripts_and_hold_no_solution(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slides = load("slides", monkeypatch)
    assert slides.write(repository, tmp_path) == []  # no workshop, no slides
    made = slides.write(ROOT, tmp_path)
    assert [path.stem for path in made] == ["a_see", "b_build", "c_doubt", "d_use"]
    for path in made:
        text = path.read_text(encoding="utf-8")
        assert text.count("<section>") == text.count('class="number">') >= 6
        assert not [
            word for word in ("<script", "<link", "<img", "@import", "url(") if word in text
        ]
        plain = html.unescape(re.sub("<[^>]+>", "", text)).splitlines()
        shown = {line.strip() for line in plain}
        solved, asked = (
            _code_lines(ROOT / "workshop" / kind / f"{path.stem}.ipynb")
            for kind in ("solutions", "exercises")
        )
        assert solved - asked and not shown & (solved - asked)
        assert shown & (asked - solved), "no stub is shown"
        assert ".ipynb" not in text and "sys.path" not in text  # links to pages; cells to skip


def _code_lines(notebook: Path) -> set[str]:
    """Lines of code that are long enough to be told from prose."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [line for c in cells if c["cell_type"] == "code" for line in c["source"]]
    return {line.strip() for line in code if len(line.strip()) > 15}


def test_what_is_found_is_not_on_the_slide_of_its_exercise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slides = load("slides", monkeypatch)

    def cell(kind: str, slide: str, source: str) -> dict[str, Any]:
        metadata = {"slideshow": {"slide_type": slide}} if slide else {}
        return {"cell_type": kind, "metadata": metadata, "source": source}

    cells = [cell("markdown", "slide", "# A & B"), cell("code", "skip", "hidden"),
             cell("code", "fragment", "x < 1"), cell("markdown", "fragment", "[f](../g.md#h)"),
             cell("code", "", "y")]  # fmt: skip
    notebook = {"cells": cells}
    parts = [["".join(one["source"]) for one in deck] for deck in slides.decks(notebook)]
    assert parts == [["# A & B", "x < 1"], ["[f](../g.md#h)", "y"]]
    text = slides.page(notebook)
    assert "<title>A &amp; B</title>" in text and 'href="../g.html#h"' in text
    assert "hidden" not in text and "&lt;" in text


def searched(html: Path, query: str, chromium: str) -> str:
    """The search page's results as a browser shows them, opened from disk."""
    address = f"{(html / 'search.html').as_uri()}?q={query}"
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--virtual-time-budget=5000", f"--user-data-dir={html.parent / 'profile'}", address]
    # Its crash reporter writes to the home folder, which may be read-only.
    home = os.environ | {"HOME": str(html.parent)}
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, env=home)
    assert shown.returncode == 0, shown.stderr
    _, _, results = shown.stdout.partition('id="search-results"')
    return results.partition("</article>")[0]


def test_the_search_page_shows_where_a_word_was_found(book: ModuleType, repository: Path) -> None:
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip("no Chromium: the search page was not opened in a browser")
    html = tiny(book, repository) / "html"
    results = searched(html, "steers", chromium)
    assert '<a href="notebooks/00_quickstart.html#drawn">Drawn</a>: ' in results
    assert "One <mark>steering</mark> vector for" in results  # its stem is that of "steers"
    assert "&lt;img src=y&gt;" in results and "<img" not in results
    number = searched(html, "50337", chromium)  # Sphinx leaves numbers out
    assert "Found on 1 page" in number and "City <mark>50337</mark>: " in number
    nothing = searched(html, "%3Cimg+src%3Dx+onerror%3Dalert(1)%3E", chromium)
    assert "did not match" in nothing and "<img" not in nothing
