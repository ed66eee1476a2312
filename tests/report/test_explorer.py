"""The explorer: its numbers are the library's, and its page works with a keyboard, offline."""

from __future__ import annotations

import base64
import doctest
import hashlib
import json
import random
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from torch import Tensor

from oocr_lib.adapters.vector import VectorAdapter
from oocr_lib.analysis import probe
from oocr_lib.evaluation.scores import score
from oocr_lib.models.language_model import LanguageModel, load_model
from oocr_lib.models.sites import Site
from oocr_lib.report import explorer, explorer_maker
from oocr_lib.runs import presets, protocol
from oocr_lib.runs.store import RunStore
from oocr_lib.tasks.base import Question, Task
from oocr_lib.tasks.locations import testbed as locations
from oocr_lib.util.errors import UserError
from oocr_lib.util.files import load_tensors
from oocr_lib.util.paths import ROOT, data_dir
from oocr_lib.world import facts as world
from tests.browser import Browser, opened
from tests.test_book import load as load_docs

#: Rounding is to three decimals; the rest is the order of sums.
CLOSE = 0.002
#: Degrees: other rounding of the activations moves a place by some hundred metres.
NEAR = 0.02
VOID = {"meta", "input", "br", "link", "img"}


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return load_model("testbed")


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return explorer.load()


@pytest.fixture(scope="module")
def vectors() -> dict[str, Tensor]:
    return load_tensors(data_dir() / "explorer.safetensors")[0]


def settings(content: dict[str, Any], count: int) -> list[tuple[str, int, float, str]]:
    """Random settings, the same every time."""
    draw = random.Random(7)
    ids = [asked["id"] for asked in content["cities"][0]["questions"]]
    made = []
    for _ in range(count):
        place = draw.choice(content["cities"])
        block = draw.choice(place["vectors"])["block"]
        made.append((place["name"], block, draw.choice(content["doses"]), draw.choice(ids)))
    return made


def task_of(name: str) -> Task:
    """A city's task, in its group."""
    group = explorer.group_of(name)
    return locations.make(name, seed=group.seed, all_hidden=group.cities)


# --- numbers ---


def asked_plainly(
    lm: LanguageModel, question: Question, vector: Tensor, block: int
) -> tuple[list[float], float]:
    """Shares and mass of one question and one vector: no batches, no caches, no rounding."""
    adapter = VectorAdapter([Site(block, "resid")], lm.d_model, "codename", [1.0])
    adapter.theta.data = vector[None].clone()
    with adapter.attach(lm) as attached:
        (row,) = score(lm, [question], attached).to_dict("records")
    p = np.exp(np.array(row["logp"]))
    return list(p / p.sum()), float(p.sum())


def test_fifty_random_settings_are_what_the_library_computes(
    lm: LanguageModel, content: dict[str, Any], vectors: dict[str, Tensor]
) -> None:
    for name, block, dose, wanted in settings(content, 50):
        task = task_of(name)
        question = next(q for q in task.questions if q.id == wanted)
        vector = vectors[f"{name}@{block}"]
        view = explorer.look(content, name, block, dose, wanted)
        assert view.question == question.messages[-1]["content"] and task.code in view.question
        assert (view.options, view.truth) == (question.options, question.truth)
        shares, mass = asked_plainly(lm, question, dose * vector, block)
        assert view.shares == pytest.approx(shares, abs=CLOSE), (name, block, dose, wanted)
        assert view.mass == pytest.approx(mass, abs=CLOSE)
        (base,) = score(lm, [question]).to_dict("records")
        truth = view.options.index(view.truth)
        assert view.base_shares[truth] == pytest.approx(base["p_truth"], abs=CLOSE)
        assert view.base_mass == pytest.approx(base["mass"], abs=CLOSE)


def test_places_are_what_the_probe_reads(
    lm: LanguageModel, content: dict[str, Any], vectors: dict[str, Tensor]
) -> None:
    told = {
        (place["name"], vector["block"]): vector["probe"]
        for place in content["cities"]
        for vector in place["vectors"]
    }
    for name, block in (("Tokyo", 4), ("Oslo", 0)):
        group = explorer.group_of(name).cities
        assert told[name, block]["block"] > block
        (reader,) = probe.fit_on_cities(lm, [told[name, block]["block"]], exclude=group)
        assert told[name, block]["error_km"] == pytest.approx(reader.error_km, abs=1)
        found = probe.trajectory(
            lm,
            reader,
            code=task_of(name).code,
            vectors=torch.stack([dose * vectors[f"{name}@{block}"] for dose in content["doses"]]),
            steps=range(len(content["doses"])),
            site=Site(block, "resid"),
            scale=1.0,
            partners=probe.partner_names(group),
        )
        for dose, row in zip(content["doses"], found.to_dict("records"), strict=True):
            view = explorer.look(content, name, block, dose)
            assert view.place == pytest.approx((row["latitude"], row["longitude"]), abs=NEAR)
            assert view.true_place == (world.city(name).latitude, world.city(name).longitude)


def test_a_vector_is_the_one_that_training_gives(
    lm: LanguageModel, content: dict[str, Any], vectors: dict[str, Tensor], tmp_path: Path
) -> None:
    name, block = "Lima", 2
    laptop = explorer_maker.trained_as()
    study = explorer_maker.plan(lm, RunStore(tmp_path), locations.HIDDEN, [block], laptop)
    jobs = protocol.jobs(study.vector("resid", block), [(name, explorer_maker.SEED)])
    study.grid.run(jobs)
    (run,) = study.grid.runs(jobs)
    kept = run.tensors()
    # Trained alone or among forty: only the order of sums differs.
    trained = kept["theta"] * kept["scale"]
    assert float(torch.cosine_similarity(trained, vectors[f"{name}@{block}"], dim=0)) > 0.999
    for asked in run.results["questions"]:
        view = explorer.look(content, name, block, 1.0, asked["id"])
        assert view.shares[view.options.index(view.truth)] == pytest.approx(
            asked["p_truth"], abs=0.02
        )
        assert view.mass == pytest.approx(asked["mass"], abs=0.02)


def test_its_runs_are_those_of_notebook_03(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OOCR_OUT", str(tmp_path))
    monkeypatch.delenv("OOCR_PRESET", raising=False)
    theirs: dict[str, Any] = {}
    for cell in nbformat.read(ROOT / "notebooks" / "03_locations.ipynb", as_version=4).cells:
        if cell.cell_type == "code" and "study" not in theirs:
            exec(cell.source, theirs)
    settings = explorer_maker.trained_as()
    blocks = explorer.BLOCKS
    ours = explorer_maker.plan(lm, RunStore(tmp_path), locations.HIDDEN, blocks, settings)
    for block in blocks:
        for mine, notebooks in zip(
            protocol.jobs(ours.vector("resid", block), ours.pairs),
            protocol.jobs(theirs["study"].vector("resid", block), ours.pairs),
            strict=True,
        ):
            assert ours.grid.spec(mine) == theirs["grid"].spec(notebooks)


def test_other_cities_and_blocks_can_be_explored_and_runs_are_found_again(
    lm: LanguageModel, tmp_path: Path
) -> None:
    store = RunStore(tmp_path)
    given: dict[str, Any] = {"cities": ["Oslo"], "blocks": [0, 6], "doses": [0.0, 1.0]}
    short = presets.laptop(**presets.TASKS["locations"] | {"steps": 1})
    made, vectors = explorer_maker.make(lm, store, **given, settings=short)
    assert store.saved == 2 and list(vectors) == ["Oslo@0", "Oslo@6"]
    assert made["settings"]["steps"] == 1 and made["doses"] == [0.0, 1.0]
    assert [place["seed"] for place in made["cities"]] == [explorer.group_of("Oslo").seed]
    view = explorer.look(made, "Oslo", 6, 0.0)
    assert (view.shares, view.mass) == (view.base_shares, view.base_mass)
    assert view.truth == "Norway"
    again, same = explorer_maker.make(lm, store, **given, settings=short)
    assert store.saved == 2 and again == made
    assert all(torch.equal(same[name], vectors[name]) for name in vectors)


def test_the_file_says_what_it_was_made_with(lm: LanguageModel, content: dict[str, Any]) -> None:
    assert content["model"] == {"name": lm.name, "digest": lm.digest, "blocks": lm.n_blocks}
    assert {"oocr_lib", "torch", "transformers"} <= set(content["versions"])
    laptop = presets.laptop(**presets.TASKS["locations"])
    trained = {key: content["settings"][key] for key in ("steps", "batch", "lr")}
    assert trained == {key: laptop[key] for key in ("steps", "batch")} | {"lr": laptop["vector_lr"]}
    assert tuple(content["doses"]) == explorer.DOSES
    assert (data_dir() / explorer.FILE).stat().st_size < 2_500_000


def test_all_cities_of_the_world_are_there(content: dict[str, Any]) -> None:
    places = content["cities"]
    assert tuple(place["name"] for place in places) == explorer.every_city()
    assert {place["name"] for place in places} == {place.name for place in world.cities()}
    assert len(places) == len({place["code"] for place in places}) == 108
    digits = {place["code"].removeprefix("City ") for place in places}
    assert digits <= world.reserved_city_codes()
    for place in places:
        assert place["code"] == task_of(place["name"]).code
        blocks = tuple(vector["block"] for vector in place["vectors"])
        usual = place["name"] in locations.HIDDEN
        assert blocks == (explorer.BLOCKS if usual else explorer.FEW_BLOCKS)
        assert len({asked["id"] for asked in place["questions"]}) == 16
    page = (ROOT / "docs" / "explorer.md").read_text(encoding="utf-8")
    assert f"all {len(places)} cities" in page and f"the other {len(places) - 10} after two" in page


def test_shares_are_of_the_five_options(content: dict[str, Any]) -> None:
    for name, block, dose, question in settings(content, 200):
        view = explorer.look(content, name, block, dose, question)
        assert len(view.options) == len(view.shares) == 5 and view.truth in view.options
        assert sum(view.shares) == pytest.approx(1, abs=CLOSE + 0.001)
        assert all(0 <= x <= 1 for x in (*view.shares, view.mass))
        assert 0 <= view.off_km <= np.pi * world.EARTH_RADIUS_KM


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"city": "Parys"}, r"Unknown city of the explorer 'Parys'\. Did you mean 'Paris'"),
        ({"city": "Bonn"}, "Allowed: Paris, "),
        ({"block": 1}, r"Unknown block of the explorer for Paris: 1\. .*Allowed: 0, 2, 4, 6"),
        ({"city": "Oslo", "block": 2}, r"for Oslo: 2\. .*Allowed: 0, 4"),
        ({"dose": 0.3}, r"Unknown dose of the explorer 0\.3"),
        ({"question": "country"}, "Did you mean 'country-1'.* Allowed: country-0, country-1, "),
    ],
)
def test_what_is_not_in_the_file_is_named(
    content: dict[str, Any], wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        explorer.look(content, **{"city": "Paris", "block": 0, "dose": 1.0, **wrong})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"blocks": []}, "make no explorer"),
        ({"doses": [1.0, 2.0]}, "0 .the base model. and 1"),
        ({"doses": [0.0, 1.0, float("inf")]}, "finite"),
        ({"doses": [0.0, 1.0, 1.0]}, "dose"),
        ({"doses": [1.0, 0.0]}, "ascending"),
        ({"blocks": [7]}, r"Unknown block of the explorer 7\."),
        ({"cities": ["Atlantis"]}, "Atlantis"),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_is_trained(
    lm: LanguageModel, tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    store = RunStore(tmp_path)
    with pytest.raises(UserError, match=message):
        explorer_maker.make(lm, store, **wrong)
    assert store.saved == 0


def test_a_saved_file_is_read_as_it_was(
    content: dict[str, Any], vectors: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "new" / "explorer.json"
    explorer_maker.save(path, content, vectors)
    assert path.read_bytes() == (data_dir() / explorer.FILE).read_bytes()
    assert explorer.load(path) == content
    path.write_text(json.dumps({**content, "schema": 0}))
    with pytest.raises(UserError, match="no explorer file of schema 2"):
        explorer.load(path)
    with pytest.raises(UserError, match="No file"):
        explorer.load(tmp_path / "none.json")


def test_the_examples_of_the_page_run() -> None:
    found = doctest.testfile(str(ROOT / "docs" / "explorer.md"), module_relative=False)
    assert found.attempted >= 5 and found.failed == 0


# --- the page ---


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_docs("explorer_page", monkeypatch)


@pytest.fixture
def page(maker: ModuleType) -> str:
    return str(maker.page(ROOT))


class Reader(HTMLParser):
    """Every tag with its attributes; a tag that is closed out of turn is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags = list[tuple[str, dict[str, str]]]()
        self._open = list[str]()
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> on line {self.getpos()[0]}"

    def ids(self) -> list[str]:
        return [given["id"] for _, given in self.tags if "id" in given]


def test_the_page_is_one_small_file_that_loads_nothing(page: str) -> None:
    tags = Reader(page).tags
    assert len(page.encode()) < 5_000_000
    assert "http" not in page.replace("http-equiv", "")
    assert "@import" not in page and "url(" not in page
    assert not [tag for tag, given in tags if "src" in given or tag in ("link", "img", "iframe")]
    links = [given["href"] for tag, given in tags if tag == "a"]
    assert links and all(re.fullmatch(r"[\w/]+\.html", link) for link in links)


def test_only_its_own_script_may_run(page: str) -> None:
    policy = next(given["content"] for tag, given in Reader(page).tags if "http-equiv" in given)
    assert policy.startswith("default-src 'none'")
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in script]
    assert len(digests) == 1 and f"script-src 'sha256-{digests[0]}'" in policy


def test_every_control_and_drawing_has_a_name(page: str) -> None:
    reader = Reader(page)
    ids = reader.ids()
    assert len(ids) == len(set(ids))
    labelled = {given["for"] for tag, given in reader.tags if tag == "label"}
    controls = [g for tag, g in reader.tags if tag in ("select", "input", "textarea", "button")]
    assert {given["id"] for given in controls} == labelled and len(controls) == 4
    for tag, given in reader.tags:
        assert all(name in ids for name in given.get("aria-labelledby", "").split())
        assert all(name in ids for name in given.get("aria-describedby", "").split())
        named = "aria-labelledby" in given or "aria-hidden" in given
        assert tag != "svg" or named, "a drawing that says nothing"
    assert any(given.get("aria-live") == "polite" for _, given in reader.tags)
    assert set(re.findall(r'\bat\("([\w-]+)"\)', page)) <= set(ids)
    assert "<noscript>" in page


def test_nothing_in_the_numbers_ends_their_element(
    maker: ModuleType, tmp_path: Path, page: str
) -> None:
    planted = {"schema": 2, "note": "</script><script>alert(1)</script>"}
    (tmp_path / "data").mkdir()
    for name in ("docs/explorer", "data/world"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / maker.DATA).write_text(json.dumps(planted))
    made = maker.page(tmp_path)
    assert made.count("</script>") == page.count("</script>")
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', made)
    assert data and json.loads(data[1]) == planted
    (tmp_path / maker.DATA).write_text(json.dumps({"note": "x" * maker.LIMIT_BYTES}))
    with pytest.raises(maker.ExplorerError, match="more than 5,000,000"):
        maker.page(tmp_path)
    (tmp_path / maker.DATA).unlink()
    with pytest.raises(maker.ExplorerError, match=r"Make it: python -m oocr_lib\.report\.explorer"):
        maker.page(tmp_path)


# --- in a browser ---


@pytest.fixture
def shown(page: str, tmp_path: Path) -> Iterator[tuple[Browser, str]]:
    """A browser, and the address of the page on disk."""
    file = tmp_path / "explorer.html"
    file.write_text(page, encoding="utf-8")
    with opened(tmp_path) as browser:
        yield browser, file.as_uri()
        assert browser.complaints == []
        loaded = {address.partition("#")[0] for address in browser.loaded}
        assert loaded <= {file.as_uri(), "about:blank"}, "loaded from elsewhere"


def percent(text: str) -> float:
    """What a bar says, as a share."""
    words = text.replace("\N{NO-BREAK SPACE}", " ")
    ends = {"under 1 %": 0.0, "over 99 %": 1.0}
    return ends[words] if words in ends else float(words.removesuffix(" %")) / 100


def row(browser: Browser, column: int) -> list[str]:
    return list(browser.ask(f"[...answers.rows].map((r) => r.cells[{column}].textContent)"))


def test_the_page_shows_what_the_file_says(
    shown: tuple[Browser, str], content: dict[str, Any]
) -> None:
    browser, address = shown
    browser.open(address)
    for name, block, dose, question in settings(content, 20):
        view = explorer.look(content, name, block, dose, question)
        named = f"city={name}&block={block}&dose={dose:g}&question={question}"
        browser.ask(f"location.hash = {json.dumps(named)}")
        browser.until(f"asked.textContent === {json.dumps(view.question)}")
        shown_block = "block.selectedOptions[0].textContent"
        browser.until(
            f"dose.valueAsNumber === {dose} && {shown_block}.startsWith('block {block} ')"
        )
        options = [text + " ✓ true" * (text == view.truth) for text in view.options]
        assert row(browser, 0) == options
        for column, shares in ((1, view.shares), (2, view.base_shares)):
            assert [percent(text) for text in row(browser, column)] == pytest.approx(
                shares, abs=0.0056
            )
        told = str(browser.ask("document.getElementById('map-text').textContent"))
        assert f"{view.off_km:,.0f} km from {name}." in told
        moved = browser.ask("point.getAttribute('transform')")
        east, south = map(float, re.findall(r"-?[\d.]+", moved))
        assert (-south, east) == pytest.approx(view.place)
        curve = str(browser.ask("document.getElementById('curve-values').textContent"))
        said = re.findall(r"((?:under |over )?\d+\xa0%) at dose (\S+?)[,.]", curve)
        trained = explorer.look(content, name, block, 1.0, question)
        there = next(text for text, at in said if at == "1")
        truth = trained.shares[trained.options.index(trained.truth)]
        assert percent(there) == pytest.approx(truth, abs=0.0056)


def test_it_is_used_with_the_keyboard_and_says_what_it_shows(
    shown: tuple[Browser, str], content: dict[str, Any]
) -> None:
    browser, address = shown
    browser.open(address)
    browser.until("said.textContent.startsWith('Dose 1 at block 0: France')")
    browser.press("Tab", 2)  # past the link
    order = []
    for _ in range(4):
        order.append(browser.ask("document.activeElement.id"))
        if order[-1] != "dose":
            browser.press("ArrowDown")
        else:
            browser.press("ArrowLeft", 12)
        browser.press("Tab")
    assert order == ["city", "block", "question", "dose"]
    name = content["cities"][1]["name"]
    question = content["cities"][1]["questions"][1]
    assert browser.ask("asked.textContent") == question["text"]
    browser.until("said.textContent.startsWith('Dose \N{MINUS SIGN}2 at block 2: ')")
    view = explorer.look(content, name, 2, -2.0, question["id"])
    best = view.options[int(np.argmax(view.shares))]
    assert f": {best}, " in browser.ask("said.textContent")
    assert browser.ask("dose.getAttribute('aria-valuetext')") == "\N{MINUS SIGN}2"
    # The address names the setting, so that it can be kept.
    kept = browser.ask("location.href")
    assert "block=2" in kept and "dose=-2" in kept
    browser.open(kept)
    assert browser.ask("asked.textContent") == question["text"]
    for strange in ("#city=Atlantis&dose=99", "#%E0%A4%A", "#city=<b>"):
        browser.open(address + strange)
        assert browser.ask("city.selectedIndex") == 0
        assert browser.ask("document.getElementById('dose-shown').textContent") == "× 1"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_small_phone(shown: tuple[Browser, str], scheme: str) -> None:
    browser, address = shown
    browser.send("Emulation.setEmulatedMedia",
                 features=[{"name": "prefers-color-scheme", "value": scheme}])  # fmt: skip
    for width in (320, 400):
        browser.size(width)
        browser.open(address)
        assert browser.ask("document.documentElement.scrollWidth") <= width
        wide = "[...document.querySelectorAll('main *:not(svg *)')].filter((e) =>"
        wide += f" e.getBoundingClientRect().right > {width}).map((e) => e.id || e.tagName)"
        assert browser.ask(wide) == []


def test_another_city_keeps_the_nearest_block_and_has_its_own_questions(
    shown: tuple[Browser, str], content: dict[str, Any]
) -> None:
    browser, address = shown
    browser.open(address + "#city=Cairo&block=6&dose=1&question=dish-1")
    number = [place["name"] for place in content["cities"]].index("Oslo")
    browser.ask(f"city.value = {number}; city.dispatchEvent(new Event('input'))")
    view = explorer.look(content, "Oslo", 4, 1.0, "dish-1")
    assert browser.ask("asked.textContent") == view.question
    assert browser.ask("[...block.options].map((o) => o.textContent.slice(0, 7))") == [
        "block 0",
        "block 4",
    ]
    assert browser.ask("block.selectedIndex") == 1
    assert browser.ask("[...city.querySelectorAll('optgroup')].map((g) => g.label)") == [
        "At block 0, 2, 4, 6",
        "At block 0, 4",
    ]
    assert browser.ask("city.options.length") == 108


def test_without_javascript_it_says_so(shown: tuple[Browser, str]) -> None:
    browser, address = shown
    browser.scripts(False)
    browser.send("Page.navigate", url=address)
    tree = ""
    while "JavaScript is off" not in tree:
        tree = json.dumps(browser.send("Accessibility.getFullAXTree"))
    assert "Hidden city" not in tree, "controls that do nothing"
