"""The explorer in a notebook: the page's numbers, its functions, its widgets, and no widgets."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import nbformat
import pytest
from nbclient import NotebookClient

from oocr_lib.models.language_model import load_model
from oocr_lib.notebook import explore
from oocr_lib.notebook.explore import Explorer, Setting
from oocr_lib.report import explorer as page, explorer_maker, plots
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT
from oocr_lib.world import facts as world
from tests.toy import language_model

PARIS = Setting()
#: Rows of the page, as their text without tags.
CELLS = re.compile(r"<t[hd][^>]*>(.*?)(?:<div.*?</div>)?</t[hd]>")


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def explorer(said: list[str]) -> Explorer:
    return Explorer(load_model("testbed"), say=said.append)


@pytest.fixture(scope="module")
def short() -> Explorer:
    """One step of training: quick, and enough for what does not look at numbers."""
    settings = explorer_maker.trained_as() | {"steps": 1}
    return Explorer(load_model("testbed"), settings, say=lambda line: None)


@pytest.mark.long
def test_numbers_are_those_of_the_page(explorer: Explorer, said: list[str]) -> None:
    content = page.load()
    for dose in (-1.0, 0.0, 0.5, 1.0, 3.0):
        for question in ("country-0", "dish-1", "name-0"):
            setting = Setting("Paris", 0, dose, question)
            ours, theirs = explorer.look(setting), page.look(content, *setting)
            assert (ours.question, ours.options) == (theirs.question, theirs.options)
            # Trained alone or among others: the order of sums differs.
            assert ours.shares == pytest.approx(theirs.shares, abs=0.03), setting
            assert ours.mass == pytest.approx(theirs.mass, abs=0.03), setting
            assert ours.base_shares == pytest.approx(theirs.base_shares, abs=0.002)
            assert ours.place == pytest.approx(theirs.place, abs=2), setting
    # One vector was trained for all of them, and its progress was told.
    assert len(said) == 3 and "training one vector, 60 steps" in said[0]
    assert "kept in memory" in said[2]


def test_every_city_can_be_chosen_and_its_questions_name_its_code(short: Explorer) -> None:
    assert {place.name for place in world.cities()} == set(page.every_city())
    asked = short.questions("Oslo")
    assert (
        len(asked) == 16 and len({re.findall("City [0-9]{5}", t)[0] for t in asked.values()}) == 1
    )
    assert set(asked) == set(short.questions("Paris")) and asked != short.questions("Paris")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (Setting("Parys"), r"Unknown city 'Parys'\. Did you mean 'Paris'"),
        (Setting(block=7), r"Unknown block 7\."),
        (Setting(dose=0.3), r"Unknown dose of the explorer 0\.3"),
        (Setting(question="colour-0"), "Unknown question of the explorer 'colour-0'"),
    ],
)
def test_what_is_not_there_is_named(short: Explorer, setting: Setting, message: str) -> None:
    with pytest.raises(UserError, match=message):
        short.look(setting)


def test_another_model_is_refused() -> None:
    other = replace(language_model(), dialect="paper")
    with pytest.raises(UserError, match=r"cannot be explored\. Allowed: the testbed"):
        Explorer(other)


def test_words_table_and_map_say_the_same(explorer: Explorer) -> None:
    view = explorer.look(PARIS)
    words = explore.sentence(view, PARIS)
    assert "Dose 1 after block 0: France" in words and "true: France" in words
    assert f"{view.off_km:,.0f} km from Paris" in words
    cells = CELLS.findall(explore.table(view))
    assert cells[:3] == ["option", "vector", "base model"]
    rows = [cells[i : i + 3] for i in range(3, len(cells), 3)]
    for row, option, share, base in zip(
        rows, view.options, view.shares, view.base_shares, strict=True
    ):
        assert row[0].removesuffix(" ✓ true") == option
        assert row[1:] == [f"{share:.0%}", f"{base:.0%}"]
    assert [row[0] for row in rows if "✓" in row[0]] == ["France ✓ true"]
    drawing = ElementTree.fromstring(explore.world_map(view, "Paris"))
    dot = drawing.find("circle")
    assert dot is not None
    place = (-float(dot.attrib["cy"]), float(dot.attrib["cx"]))
    assert place == pytest.approx(view.place, abs=0.01)
    assert drawing.attrib["aria-label"].endswith("km from Paris.")


def test_nothing_in_an_answer_is_read_as_html() -> None:
    bad = "<b>&\"'"
    view = page.View(bad, (bad, "x"), bad, (0.5, 0.5), 1.0, (0.5, 0.5), 1.0, (0, 0), (0, 0))
    assert bad not in explore.table(view) and html.escape(bad) in explore.table(view)
    ElementTree.fromstring(explore.world_map(view, "<i>"))


def test_the_path_goes_from_the_base_model_to_the_dose(explorer: Explorer) -> None:
    for dose, count in ((1.0, 5), (-0.5, 3), (0.0, 1)):
        trail = explorer.trail(PARIS._replace(dose=dose))
        assert len(trail) == count and trail[-1]["label"] == "Paris"
        steps = sorted(trail, key=lambda point: point["step"])
        last = explorer.look(PARIS._replace(dose=dose)).place
        assert (steps[-1]["latitude"], steps[-1]["longitude"]) == pytest.approx(last)
    assert all(plots.alt(chart) for chart in explorer.pictures(PARIS))


def test_where_nobody_watches_it_shows_pictures_and_ends(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    monkeypatch.setattr(explore, "watched", lambda: False)
    explore.show(explorer, PARIS)
    assert [type(what) for what in shown] == [plots.Chart] * 2
    assert "Dose 1 after block 0: France" in capsys.readouterr().out
    monkeypatch.setattr(explore, "watched", lambda: True)
    monkeypatch.setattr(explore, "find_spec", lambda name: None)  # no ipywidgets
    explore.show(explorer, PARIS)
    assert len(shown) == 4
    with pytest.raises(UserError, match="pip install ipywidgets"):
        explore.panel(explorer, PARIS)


def test_widgets_follow_the_functions(short: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    w = pytest.importorskip("ipywidgets", reason="no ipywidgets: the widgets were not tried")
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    monkeypatch.setattr(explore, "watched", lambda: True)
    explore.show(short, Setting("Oslo", 0, 1.0, "dish-1"))
    (panel,) = shown
    city, block, dose, question, progress, said, bars, places = panel.children
    assert isinstance(dose, w.SelectionSlider) and dose.options == page.DOSES
    assert len(city.options) == 108 and block.options == (0, 1, 2, 3, 4, 5, 6)
    assert all(control.description for control in (city, block, dose, question))
    assert "kept in memory" in progress.value
    now = Setting("Oslo", 0, 1.0, "dish-1")
    assert explore.table(short.look(now)) == bars.value
    dose.value = -2.0
    question.value = "country-0"
    now = Setting("Oslo", 0, -2.0, "country-0")
    assert bars.value == explore.table(short.look(now))
    assert places.value == explore.world_map(short.look(now), "Oslo")
    assert html.escape(explore.sentence(short.look(now), now)) in said.value
    city.value = other = page.group_of("Oslo").cities[1]
    assert question.value == "country-0"  # kept, and now about the other city's code
    assert bars.value == explore.table(short.look(now._replace(city=other)))
    assert dict(question.options) == {t: name for name, t in short.questions(other).items()}


@pytest.mark.long
def test_the_notebook_runs_without_a_front_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OOCR_PROGRESS", raising=False)
    notebook = nbformat.read(ROOT / "workshop" / "explorer.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}})
    client.execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    kinds = [kind for out in code[0].outputs for kind in out.get("data", {})]
    assert kinds.count("image/png") == 2 and not any("widget" in kind for kind in kinds)
    alts = [out.metadata["image/png"]["alt"] for out in code[0].outputs if "data" in out]
    assert all(alts)
    lines = "".join(out.text for out in code[1].outputs).splitlines()
    assert len(lines) == 6 and lines[4].startswith("dose  1.00: France 1.00")
