"""What notebooks show: tables and captions, as media types in a notebook, printed elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

from oocr_lib.notebook import screen
from oocr_lib.util.paths import ROOT
from oocr_lib.world import facts

CAPTION = "f_1 *stays* <b>at</b> 3x + 2 | $x$"
LONG = "x" * 99
ORIGIN = {"script": "notebooks/a.ipynb", "commit": "abc1234"}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """What is displayed, as in a notebook."""
    calls: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(screen, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda what, **how: calls.append((what, how)))
    return calls


def test_a_table_is_rounded_escaped_and_whole(shown: list[Any]) -> None:
    frame = pd.DataFrame({"a": [-0.001, 1.234] * 40, "b": ["<i>said</i>" + LONG, None] * 40})
    screen.table(frame)
    bundle, how = shown[0]
    assert how == {"raw": True}
    page, text = bundle["text/html"], bundle["text/plain"]
    assert page.count("<tr") == 81 and len(text.splitlines()) == 81
    assert "&lt;i&gt;said&lt;/i&gt;" in page and "<i>" not in page
    for part in (page, text):
        assert (
            part.count(LONG) == 40
            and "0.00" in part
            and "-0.00" not in part
            and "1.23" in part
            and "1.234" not in part
        )
        assert "–" in part


def test_digits_and_index(shown: list[Any]) -> None:
    screen.table(pd.Series([1.26], index=["row"], name="x"), digits=1)
    assert "1.3" in shown[0][0]["text/html"] and "row" in shown[0][0]["text/html"]
    screen.table(pd.DataFrame({"x": [1]}, index=["row"]), index=False)
    assert "row" not in shown[1][0]["text/html"] + shown[1][0]["text/plain"]


def test_a_figure_has_its_caption_below_and_its_origin_out_of_sight(shown: list[Any]) -> None:
    screen.figure(b"\x89PNG", "bars\nof two", CAPTION, "results/my_table.csv", ORIGIN)
    (image, how), (bundle, _) = shown
    assert image.data == b"\x89PNG" and image.alt == "bars of two"
    assert how["metadata"] == {"oocr": ORIGIN}
    below = bundle["text/markdown"]
    assert below == (
        r"*Figure.* f\_1 \*stays\* &lt;b&gt;at&lt;/b&gt; 3x \+ 2 \| \$x\$"
        r"<br><small>Data: results/my\_table.csv</small>"
    )
    assert "abc1234" not in below + bundle["text/plain"]


def test_outside_a_notebook_both_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    screen.table(pd.DataFrame({"x": [0.5]}))
    screen.figure(b"\x89PNG", "alt", CAPTION, "a.csv", ORIGIN)
    assert capsys.readouterr().out == f"     x\n0 0.50\n{CAPTION} (data: a.csv)\n"


def test_columns_have_names_that_a_reader_knows(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"lr": [0.1], "mc": [1.0], "valid_loss": [0.5]}).set_index("lr")
    screen.table(frame)
    said = capsys.readouterr().out
    for name in ("learning rate", "accuracy among options", "validation loss"):
        assert name in said
    assert "mc" not in said.split() and list(frame.columns) == ["mc", "valid_loss"]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_names_in_shown_tables_are_explained(path: Path) -> None:
    """Names of code, such as ``mc5``: in the glossary, or in the notebook's text."""
    cells = nbformat.read(path, as_version=4).cells
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    said = "\n".join([*prose, (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")])
    pages = [
        output["data"]["text/html"]
        for cell in cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    shown = {name for page in pages for name in re.findall(r"<th[^>]*>([^<]+)</th>", page)}
    codes = {name.split("/")[-1] for name in shown if re.fullmatch(r"[\w-]+/[a-z0-9_]+", name)}
    codes |= {name for name in shown if re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", name)}
    codes -= {function.key for function in facts.functions()}
    missing = sorted(c for c in codes if f"`{c}`" not in said and f"*{c}*" not in said)
    assert not missing, f"{path.name} shows {', '.join(missing)}"
