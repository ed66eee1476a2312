"""The texts that the search page takes its snippets from."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from oocr_lib.util.paths import ROOT

PAGE = """<html><body><nav>Menu</nav><div role="main" id="m"><script>var no = 1;</script>
<section id="top"><h1>Risk &amp; safety<a class="headerlink" href="#top">¶</a></h1>
<p class="source-link"><a href="x">Download</a></p>
<p>One <b>stee</b>ring vector,<br>x &lt; y.<img src="a.png" alt="no"></p>
<table><tr><td>left</td><td>right</td></tr></table>
<section id="part"><h2>Part <em>one</em></h2><p>Unclosed <p>Below.</p></section>
<p>After the part.</p></section></div><p>Footer</p></body></html>"""


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module("search_texts")


def test_sections_hold_what_is_read_in_the_main_part(texts: ModuleType) -> None:
    assert texts.sections(PAGE) == [
        [
            "top",
            "Risk & safety",
            "One steering vector, x < y. left right After the part.",
        ],
        ["part", "Part one", "Unclosed Below."],
    ]
    assert texts.sections("<p>no main part</p>") == []


def test_the_script_is_data_for_every_page_that_has_text(texts: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "_static").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/00_a.b.html").write_text(PAGE, encoding="utf-8")
    (tmp_path / "search.html").write_text("<div role='main'></div>", encoding="utf-8")
    script = texts.write(tmp_path).read_text(encoding="utf-8")
    start, end = "const BOOK_TEXTS = ", ";\n"
    assert script.startswith(start) and script.endswith(end)
    content = json.loads(script.removeprefix(start).removesuffix(end))
    assert content == {"notebooks/00_a.b": texts.sections(PAGE)}


def test_too_much_text_is_one_line_and_writes_nothing(
    texts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "LIMIT_BYTES", 100)
    (tmp_path / "index.html").write_text(PAGE, encoding="utf-8")
    with pytest.raises(texts.TooLargeError, match=r"bytes\. Allowed: 100\. ") as caught:
        texts.write(tmp_path)
    assert "\n" not in str(caught.value) and not (tmp_path / texts.SCRIPT).exists()
