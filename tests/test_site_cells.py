"""Which cell makes a number or a figure; and the figures page, which is made from that."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oocr_lib.util.paths import ROOT

DOCS = ROOT / "docs"


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("notebook_cells")


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("figures_page")


def notebook(*sources: str) -> dict[str, Any]:
    """A notebook of code cells with ids c0, c1, ..."""
    made = [
        {"cell_type": "code", "id": f"c{number}", "source": source, "outputs": []}
        for number, source in enumerate(sources)
    ]
    return {"cells": [{"cell_type": "markdown", "id": "m", "source": "metrics.add("}, *made]}


@pytest.mark.parametrize(
    ("metric", "cell"),
    [
        ("lowest/base/accuracy", "c0"),  # a plain name
        ("risk/vector/accuracy", "c1"),
        ("risk_best/vector/accuracy", "c2"),  # c1 fits, too, with fewer letters of its own
        ("all/lora/mc5", "c3"),  # no name in the source: by its parts
        ("risk_at_end/lora/share", "c5"),  # a key of exp.record, and its measure
        ("risk.best/vector/mean", "c1"),  # nothing fits: the first cell that adds any
    ],
)
def test_the_cell_that_adds_a_metric(cells: ModuleType, metric: str, cell: str) -> None:
    made = notebook(
        'exp.metrics.add("lowest/base/accuracy", found)',
        'for m in ms:\n    exp.metrics.add(f"{p}/{m}/accuracy", i)\nprint("risk vector best")',
        'key = f"{p}_best/{m}/accuracy"\nexp.metrics.add(key, i)',
        'found = family("all", "mc5")\nfor key in found:\n    exp.metrics.add(key, found[key])',
        'exp.claim("Risk", "risk/vector/accuracy", "> 0")',
        'exp.record(table, "{task}_at_{tokens}/{method}", {"energy": "share"})',
    )
    if metric == "risk.best/vector/mean":
        made["cells"].pop(1)
    assert cells.maker(made, metric) == cell
    assert cells.maker(notebook("x = 1"), metric) is None


def test_every_committed_claim_has_a_cell_that_makes_its_metric(cells: ModuleType) -> None:
    content = json.loads((ROOT / "data/reference/laptop/claims.json").read_text())
    notebooks = cells.load(ROOT)
    checks = [check for claim in content["claims"] for check in claim["checks"]]
    assert len(checks) > 90
    made = {}
    for check in checks:
        name, metric = check["notebook"], check["metric"]
        found = cells.maker(notebooks[name], metric)
        sources = {c["id"]: "".join(c["source"]) for c in notebooks[name]["cells"]}
        makes = "metrics.add(" in sources[found] or "exp.record(" in sources[found]
        assert makes, f"{name}: {found} makes no metric"
        made[metric] = sources[found]
    for metric, part in {
        "lowest/base/accuracy": "lowest/base/accuracy",
        "risk_best_block/vector_resid/p_risky": "_best_block/",
        "all/vector_mlp_out/mc5": "exp.record(runs",
        "fitted/vector_resid/triggers": "fitted/",
        "patch_pattern/vector_resid/effect_share": "patch_pattern",
        "locations_keep_only/lora_one/accuracy": "exp.record(scores",
        "locations/vector_resid/distance_correlation": "distance_correlation",
    }.items():
        assert part in made[metric], metric


def test_every_picture_of_a_committed_notebook_has_a_name_and_says_what_it_shows(
    cells: ModuleType,
) -> None:
    for name, content in cells.load(ROOT).items():
        outputs = [out for cell in content["cells"] for out in cell.get("outputs", [])]
        pictures = [out for out in outputs if "image/png" in out.get("data", {})]
        figures = cells.figures(name, content)
        assert len(figures) == len(pictures), name
        assert len({figure.name for figure in figures}) == len(figures), name
        assert all(figure.alt and figure.png.startswith(b"\x89PNG") for figure in figures), name


def test_the_table_of_figures_names_what_is_there_and_nothing_twice(
    cells: ModuleType, page: ModuleType
) -> None:
    ours = {
        f"{figure.notebook}/{figure.name}": figure
        for name, content in cells.load(ROOT).items()
        for figure in cells.figures(name, content)
    }
    entries = page.load(ROOT, ours)
    named = [key for entry in entries for key in entry["ours"]]
    assert len(named) == len(set(named)) and set(named) <= set(ours)
    assert len({entry["id"] for entry in entries}) == len(entries)
    text, pictures = page.page(ROOT)
    assert len(pictures) == len(ours)
    for key, figure in ours.items():
        assert text.count(f"![{page.plain(figure.alt)}]") == 1, key
        assert f"notebooks/{figure.notebook}.ipynb#{figure.cell}" in text
    for number in ("2", "3", "4", "8a", "8b", "9"):
        entry = next(entry for entry in entries if entry["paper"] == f"Fig. {number}")
        assert f"| [Fig. {number}](#{entry['id']}) |" in text
        assert entry["source"].startswith("second-hand") and entry["values"]


def test_every_figure_that_a_claim_cites_has_a_row(page: ModuleType) -> None:
    entries = page.load(ROOT, _everything())
    claims = page.claims_table.load(ROOT)
    cited = {c["id"] for entry in entries for c in page.cited_by(entry, claims)}
    words = ("Fig. ", "Figs ", "figure", "Appendix")
    wanted = {c["id"] for c in claims if any(word in c["source"] for word in words)}
    assert len(wanted) > 10
    baselines = {c["id"] for c in claims if c["source"].endswith("(baseline for Fig. 8)")}
    assert wanted - baselines == cited


def test_figures_are_cited_by_their_number_not_by_its_beginning(page: ModuleType) -> None:
    claims = [{"source": "section 3; Figs 2, 3"}, {"source": "Fig. 8b"}, {"source": "Fig. 30"}]
    assert page.cited_by({"cites": "Fig. 3"}, claims) == claims[:1]
    assert page.cited_by({"cites": "Fig. 8"}, claims) == []
    assert page.cited_by({}, claims) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"03_locations/methods"', '"03_locations/method"', r"fig-2 names '03_locations/method'"),
        ('"03_locations/methods"', '"30_locations/methods"', r"fig-2 names '30_locations/methods'"),
        ('shows = "Headline', 'show = "Headline', r"fig-2 has no shows\. Add it"),
    ],
)
def test_a_table_that_has_gone_stale_stops_the_book(
    page: ModuleType, tmp_path: Path, old: str, new: str, problem: str
) -> None:
    text = (DOCS / "figures.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "docs").mkdir()
    (tmp_path / page.TABLE).write_text(text.replace(old, new), encoding="utf-8")
    for folder in ("notebooks", "data/reference/laptop"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copyfile(ROOT / "data/claims.toml", tmp_path / "data/claims.toml")
    with pytest.raises(page.FiguresError, match=problem) as caught:
        page.page(tmp_path)
    assert "\n" not in str(caught.value)


class _everything(dict[str, object]):
    """Figures of every name."""

    def __contains__(self, key: object) -> bool:
        return True
