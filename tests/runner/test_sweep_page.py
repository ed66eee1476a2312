"""The page of a sweep: it stands alone, links to what is there, and shows text as text."""

from __future__ import annotations

import base64
import hashlib
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
from matplotlib.figure import Figure

from oocr_lib.report import plots
from oocr_lib.runner import sweep_page

HOSTILE = '<script>alert("1")</script> & more'
CITIES = {"Oslo": "hidden=Oslo", HOSTILE: "hidden=-script-#1 %41", "Lima": "a_notebook"}


class Page(HTMLParser):
    """What a page links to and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [about for name, about in self.tags if name == tag]


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, pd.DataFrame, str]:
    """Three runs; one is in the notebook's own folder, one has no figure."""
    folder, rows = tmp_path / "a_notebook", []
    for city, label in CITIES.items():
        place = folder if label == folder.name else folder / label
        place.mkdir(parents=True, exist_ok=True)
        (place / "a_notebook.ipynb").write_text("{}")
        if city != "Oslo":
            figure = Figure()
            figure.subplots().set_title(f"{city}'s bars", loc="left")
            (place / "bars.png").write_bytes(plots.png(figure))
        key = {"family": "all", "method": "base", "measure": "mc5", "value": 0.45}
        more = {"low": 0.0, "high": 1.0, "n": 8, "note": HOSTILE, "folder": label}
        rows.append({"seed": 9, "hidden": city, **key, **more})
    for name in ("sweep.csv", "summary.csv"):
        (folder / name).write_text("")
    table = pd.DataFrame(rows)
    return folder, table, sweep_page.to_html(table, folder, ["all/base/mc5"])


Made = tuple[Path, pd.DataFrame, str]


def test_every_link_is_relative_and_leads_somewhere(made: Made) -> None:
    folder, _, text = made
    page = Page(text)
    links = [tag["href"] for tag in page.all("a")] + [tag["src"] for tag in page.all("img")]
    assert len(links) == 2 + 3 * 3 + 2 * 2  # the tables; a run: twice its notebook, its files
    for link in links:
        assert not re.match(r"[a-z]+:|/", link), link
        assert (folder / unquote(link)).exists(), link
    assert {tag.get("src") for tag in page.all("script")} == {None} and not page.all("link")


def test_text_is_shown_as_text(made: Made) -> None:
    _, _, text = made
    page = Page(text)
    assert len(page.all("script")) == 1 and "<script>alert" not in text
    assert page.text.count(HOSTILE) >= 3  # as a value, in a caption, and what all runs share
    policy = page.all("meta")[2]["content"]
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy and "default-src 'none'" in policy


def test_figures_have_a_text_and_a_gap_is_named(made: Made) -> None:
    page = Page(made[2])
    texts = [tag["alt"] for tag in page.all("img")]
    assert len(texts) == 2 and all("bars" in text and "hidden = " in text for text in texts)
    assert all(tag["width"].isdigit() and tag["height"].isdigit() for tag in page.all("img"))
    assert "This run has no such figure." in page.text


def test_tables_scroll_and_sort_by_keyboard(made: Made) -> None:
    page = Page(made[2])
    boxes = [tag for tag in page.all("div") if tag.get("class") == "scroll"]
    assert len(boxes) == 2 and all(tag["tabindex"] == "0" and tag["aria-label"] for tag in boxes)
    heads = re.findall(r"<button[^>]*>(.*?)</button>", made[2])
    assert heads == ["hidden", "seed", "all/base/mc5", "run"]
    first = made[2].split("<h2>All runs</h2>")[1].split("<tbody>")[1].split("</tr>")[0]
    cells = re.findall(r'data-key="(.*?)"', first)
    assert cells[1:] == ["9", "0.45", cells[3]] and unescape(cells[0]) == HOSTILE
    keys = [tag["data-key"] for tag in page.all("td") if tag.get("class") == "number"]
    assert keys == ["0.45"] * 3
