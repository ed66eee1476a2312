"""The prose of this repository says what its references say, and one command keeps it so."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import pytest

from oocr_lib.report import claim_file, claims, landing, metrics
from oocr_lib.util import files as store
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
REFERENCES = ROOT / landing.REFERENCES
BOOK = "03_locations"
KEY = "all/vector_resid/mc5"


def committed() -> dict[str, Any]:
    content: dict[str, Any] = store.read_json(REFERENCES / landing.CLAIMS)
    return content


def test_no_sentence_contradicts_a_number_or_a_verdict() -> None:
    problems = landing.bring_in_line(ROOT, write=False)
    assert not problems, "\n" + "\n".join(problems)


def test_every_notebook_and_page_is_checked() -> None:
    checked = {path.relative_to(ROOT).as_posix() for path, _, _ in landing.texts(ROOT)}
    assert {f"notebooks/{path.name}" for path in NOTEBOOKS} < checked
    assert {"README.md", "REPRODUCE.md", "docs/index.md", "docs/glossary.md"} < checked


def test_committed_verdicts_are_those_that_notebook_11_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))  # the table imports its neighbour
    spec = importlib.util.spec_from_file_location("table", ROOT / "docs" / "claims_table.py")
    assert spec and spec.loader
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    shown = table.verdicts(json.loads((ROOT / "notebooks" / "11_claims.ipynb").read_text()))
    assert {claim["id"]: claim["verdict"] for claim in committed()["claims"]} == shown


def test_committed_verdicts_follow_from_the_committed_numbers() -> None:
    words = {claim["id"]: claim["verdict"] for claim in committed()["claims"]}
    # References read from outputs lack what no output shows, and a claim may be newer: a run
    # fills both.
    judged = {one.claim.id: one.word for one in claims.judge(claim_file.load(), REFERENCES)}
    known = {name for name, word in judged.items() if word != "not run"} & set(words)
    assert len(known) > 40
    assert {name: judged[name] for name in known} == {name: words[name] for name in known}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small repository: two first pages, one notebook, and the real references."""
    shutil.copytree(REFERENCES, tmp_path / landing.REFERENCES)
    page = f"# Start\n\n{landing.BEGIN}\nold\n{landing.END}\n\nIt is 0.99<!-- m:{BOOK} {KEY} -->.\n"
    (tmp_path / "docs").mkdir()
    for name in landing.FIRST_PAGES:
        (tmp_path / name).write_text(page, encoding="utf-8")
    (tmp_path / "REPRODUCE.md").write_text("Took 8.5 s.<!-- fixed -->\n", encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / f"{BOOK}.ipynb", tmp_path / "notebooks")
    assert landing.bring_in_line(tmp_path, write=True) == []
    return tmp_path


def plant(root: Path, value: float) -> None:
    """Another reference number, as a new run would give."""
    file = root / landing.REFERENCES / BOOK / metrics.FILE
    found = metrics.load(file)
    found.add(KEY, value, n=15)
    found.write(file)


def test_writing_is_complete_and_changes_nothing_twice(root: Path) -> None:
    for name in landing.FIRST_PAGES:
        text = (root / name).read_text(encoding="utf-8")
        assert "| paper | ours | verdict |" in text and "\nold\n" not in text
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert landing.bring_in_line(root, write=True) == []
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_new_number_is_found_then_corrected_everywhere(root: Path) -> None:
    plant(root, 0.91)
    problems = landing.bring_in_line(root, write=False)
    assert [line.split(",")[0] for line in problems] == [
        "README.md",
        "docs/index.md",
        f"notebooks/{BOOK}.ipynb",
    ]
    old = nbformat.read(root / "notebooks" / f"{BOOK}.ipynb", as_version=4)
    assert landing.bring_in_line(root, write=True) == []
    assert "It is 0.91<!--" in (root / "README.md").read_text(encoding="utf-8")
    new = nbformat.read(root / "notebooks" / f"{BOOK}.ipynb", as_version=4)
    changed = [a.id for a, b in zip(old.cells, new.cells, strict=True) if a != b]
    assert changed == ["cell-00"] and "0.91<!-- m:" in new.cells[0].source


def test_a_changed_verdict_stays_until_a_person_looks(root: Path) -> None:
    file = root / landing.REFERENCES / landing.CLAIMS
    content = store.read_json(file)
    for claim in content["claims"]:
        if claim["id"] == "vector-locations":
            claim["verdict"] = "undecided"
    store.write_json(file, content)
    (problem,) = landing.bring_in_line(root, write=True)
    assert problem.startswith(f"notebooks/{BOOK}.ipynb, cell cell-00, line ")
    assert "claim vector-locations is 'undecided'" in problem
    assert "? undecided<br>" in (root / "README.md").read_text(encoding="utf-8")


def test_a_page_without_its_two_comments_is_one_line(root: Path) -> None:
    (root / "README.md").write_text("# Start\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^README.md lacks the lines <!-- findings:begin -->"):
        landing.bring_in_line(root, write=False)


def test_a_headline_without_its_claim_is_one_line() -> None:
    content = committed()
    content["claims"] = [c for c in content["claims"] if c["id"] != "vector-risk"]
    with pytest.raises(UserError, match=r"^There is no claim 'vector-risk' in claims.json"):
        landing.findings(content)


def test_a_claim_that_was_not_run_has_no_number() -> None:
    content = committed()
    for claim in content["claims"]:
        for check in claim["checks"]:
            check |= {"value": None, "ci": None, "n": None}
    assert landing.findings(content).count("not run") >= len(landing.HEADLINES)


def test_references_are_taken_from_one_full_run(root: Path, tmp_path: Path) -> None:
    measured = tmp_path / "results" / "laptop"
    shutil.copytree(REFERENCES, measured)
    shutil.rmtree(root / landing.REFERENCES)
    assert landing.refresh(measured, root) == sorted(path.stem for path in NOTEBOOKS)
    words = {
        c["id"]: c["verdict"]
        for c in store.read_json(root / landing.REFERENCES / "claims.json")["claims"]
    }
    assert words["vector-locations"] == "holds"
    shutil.rmtree(measured / BOOK)
    with pytest.raises(UserError, match=f"has no numbers of {BOOK}"):
        landing.refresh(measured, root)


def test_references_of_another_preset_are_refused(root: Path, tmp_path: Path) -> None:
    measured = tmp_path / "results" / "smoke"
    shutil.copytree(ROOT / "data" / "reference" / "smoke", measured)
    with pytest.raises(UserError, match=r"has preset 'smoke'. Allowed: laptop"):
        landing.refresh(measured, root)


def test_command_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(landing, "ROOT", root)
    assert landing.main(["check"]) == 0
    plant(root, 0.91)
    assert landing.main(["check"]) == 1
    assert "3 problems in the prose" in capsys.readouterr().out
    assert landing.main(["write"]) == 0
    assert landing.main(["check"]) == 0
    assert landing.main(["check", "--from", "results"]) == 2
    assert landing.main(["write", "--from", str(root / "nowhere")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_make_notebooks_refreshes_all_of_it() -> None:
    done = subprocess.run(["make", "-n", "notebooks"], cwd=ROOT, capture_output=True, text=True)
    assert "-m oocr_lib.report.landing write --from results/laptop" in done.stdout


def test_notebooks_lead_from_one_to_the_next() -> None:
    names = [path.name for path in NOTEBOOKS]
    for path, after in zip(NOTEBOOKS, [*names[1:], "../README.md"], strict=True):
        cells = nbformat.read(path, as_version=4).cells
        assert "(../docs/glossary.md)" in cells[0].source, path.name
        assert cells[-1].cell_type == "markdown" and f"({after})" in cells[-1].source, path.name


def test_paths_name_sections_that_are_there() -> None:
    text = (ROOT / "docs" / "paths.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "../notebooks/" in line]
    named = 0
    for line in lines:
        name = re.findall(r"\.\./notebooks/(\w+\.ipynb)", line)[0]
        cells = nbformat.read(ROOT / "notebooks" / name, as_version=4).cells
        heads = re.findall(r"^## (.*)$", "\n".join(cell.source for cell in cells), re.MULTILINE)
        for section in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", line):
            assert any(head.startswith(section) for head in heads), f"{name}: no {section!r}"
            named += 1
    assert named > 15


def test_the_drawing_needs_nothing_from_elsewhere() -> None:
    text = (ROOT / "docs" / "method.svg").read_text(encoding="utf-8")
    drawing = ElementTree.fromstring(text)
    assert drawing.find("{http://www.w3.org/2000/svg}title") is not None
    fonts = {part.get("font-family") for part in drawing.iter()} - {None}
    assert fonts <= {"sans-serif", "serif"}
    assert not re.search(r"href|url\((?!#)|<image|<style|<script", text)
