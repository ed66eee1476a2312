"""The guide: its tables are what the references give, and no sentence of it contradicts them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oocr_lib.report import landing
from oocr_lib.util.paths import ROOT
from tests.test_book import load

VERDICT = re.compile(r"\*\*(?:holds|does not hold|undecided|not run|withdrawn)\*\*|[✓✗⊘]")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)")


@pytest.fixture
def guide(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("guide_tables", monkeypatch)


@pytest.fixture
def known(guide: ModuleType) -> Any:
    return guide.sources(ROOT)


def texts(guide: ModuleType) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in guide.pages(ROOT)}


def test_the_tables_say_what_the_references_say(guide: ModuleType) -> None:
    assert guide.bring_in_line(ROOT, write=False) == []
    checked = {path for path, _, _ in landing.texts(ROOT)}
    assert set(guide.pages(ROOT)) <= checked  # numbers and verdicts between the tables
    assert 2 <= len(list(guide.pages(ROOT))) <= 4


def test_every_claim_and_every_figure_stands_in_one_place(guide: ModuleType, known: Any) -> None:
    pages = texts(guide).values()
    claims = [name for text in pages for name in guide.named(text, "claims")]
    assert claims.count(guide.OTHERS) == 1  # a new claim is shown there until somebody places it
    claims.remove(guide.OTHERS)
    assert sorted([*claims, *known.others]) == sorted(known.claims)
    assert len(known.others) < 20
    figures = [name for text in pages for name in guide.named(text, "figure")]
    ours = sorted(name for name, entry in known.figures.items() if entry["ours"])
    assert sorted(figures) == ours
    words = " ".join(pages)
    assert all(entry["paper"].split(":")[0] in words for entry in known.figures.values())


def test_no_verdict_is_typed(guide: ModuleType) -> None:
    for name, text in texts(guide).items():
        typed = guide._BLOCK.sub("", text)
        assert not VERDICT.search(typed), name


def test_links_lead_to_files_and_cells_that_are_there(guide: ModuleType, known: Any) -> None:
    cells = {
        name: {cell["id"] for cell in notebook["cells"]}
        for name, notebook in known.notebooks.items()
    }
    seen = 0
    for path in guide.pages(ROOT):
        for target, anchor in LINK.findall(path.read_text(encoding="utf-8")):
            file = (path.parent / target).resolve()
            assert file.is_file(), f"{path.name}: {target}"
            if file.suffix == ".ipynb" and anchor:
                assert anchor in cells[file.stem], f"{path.name}: {target}#{anchor}"
                seen += 1
    assert seen > 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What the tables are made of, to be changed."""
    for name in ("notebooks", "docs/guide", "data/reference/laptop"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("docs/figures.toml", "data/claims.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_a_new_number_is_found_then_written(guide: ModuleType, root: Path) -> None:
    file = root / landing.REFERENCES / landing.CLAIMS
    content = json.loads(file.read_text(encoding="utf-8"))
    check = next(c for c in content["claims"] if c["id"] == "vector-risk")["checks"][0]
    check["value"] = 0.123
    file.write_text(json.dumps(content), encoding="utf-8")
    assert guide.bring_in_line(root, write=False) == [
        "docs/guide/1_one_vector.md: a table is out of date"
    ]
    assert guide.bring_in_line(root, write=True) == []
    assert guide.bring_in_line(root, write=False) == []
    assert "| 0.12 " in (root / "docs/guide/1_one_vector.md").read_text(encoding="utf-8")


def test_a_verdict_that_is_changed_by_hand_is_found(guide: ModuleType, root: Path) -> None:
    page = root / "docs/guide/3_directions.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("✓ **holds**", "✗ **does not hold**", 1), encoding="utf-8")
    assert guide.bring_in_line(root, write=False) == [
        "docs/guide/3_directions.md: a table is out of date"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- claims: vector-rosk -->\n<!-- end -->", "names claims 'vector-rosk'"),
        ("<!-- figure: fig-99 -->\n<!-- end -->", "names figure 'fig-99'"),
        ("<!-- claims: vector-risk -->\n", "no <!-- end -->"),
        ("<!-- end -->\n", "no <!-- end -->, or one too many"),
    ],
)
def test_a_slip_in_a_table_is_named(guide: ModuleType, known: Any, text: str, message: str) -> None:
    with pytest.raises(guide.GuideError, match=re.escape(message)):
        guide.filled(text, known)


def test_make_notebooks_brings_it_in_line(guide: ModuleType) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "docs/guide_tables.py write" in makefile
    assert guide.main(["check"]) == 0 and guide.main([]) == 2
