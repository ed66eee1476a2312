"""Equal rows of every kind, questions that no vector can touch, distances worked out by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oocr_lib.analysis import hints
from oocr_lib.analysis.probe import Probe
from oocr_lib.models.language_model import load_model
from oocr_lib.models.sites import Site
from oocr_lib.runs import protocol
from oocr_lib.runs.grid import Grid, Method
from oocr_lib.runs.methods import with_config
from oocr_lib.runs.presets import LAPTOP, Settings
from oocr_lib.runs.store import RunStore
from oocr_lib.runs.study import Study
from oocr_lib.tasks.locations import testbed as locations
from oocr_lib.util.errors import UserError
from oocr_lib.world import facts as world
from tests import toy

CITIES = ("Paris", "Tokyo")
PLACES = [(city, 0) for city in CITIES]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    lm, store = load_model("testbed"), RunStore(tmp_path_factory.mktemp("runs"))
    plain = Grid(lm, store, lambda city, seed: locations.make(city, seed=seed), {}, "Paris")
    few = {"steps": 2, "batch": 2, "lora_steps": 2, "lora_batch": 2, "rank": 2}
    return Study(plain, Settings({**LAPTOP, **few}), [0], PLACES, "codename")


def test_concepts_are_read_as_they_were_written() -> None:
    for kinds in hints.mixes():
        assert hints.parsed(hints.concept("Paris", kinds, 12)) == ("Paris", kinds, 12)
    assert len(hints.mixes()) == 6
    for wrong in ("Paris", "Paris: distances", "Paris: 4 rumours"):
        with pytest.raises(UserError, match="Allowed"):
            hints.parsed(wrong)


@pytest.mark.parametrize("kinds", hints.mixes(), ids=hints.AND.join)
def test_every_mix_has_as_many_rows_of_its_kinds_alone(kinds: tuple[str, ...]) -> None:
    task = hints.told(locations.make, locations.HIDDEN)(hints.concept("Paris", kinds, 24), 0)
    counted = Counter(hints.kind_of(row) for row in task.train)
    assert counted == dict.fromkeys(kinds, 24 // len(kinds))
    texts = Counter((row.messages[-1]["content"], row.answer) for row in task.train)
    for kind in kinds:
        own = [row for row in task.train if hints.kind_of(row) == kind]
        times = [texts[row.messages[-1]["content"], row.answer] for row in own]
        # Five attributes fill their share by turns; of the others there are enough.
        assert max(times) - min(times) <= 1
        assert max(times) == 1 or kind == "attributes"
    assert {q.family for q in task.questions} >= set(hints.ASKED)
    assert task.concept.startswith("Paris: 24 ")


def test_what_cannot_be_shared_evenly_is_refused() -> None:
    rows = locations.make("Paris", seed=0).train
    with pytest.raises(UserError, match="5 rows cannot be shared evenly by 2 kinds"):
        hints.even(rows, ("distances", "directions"), 5, 0)
    with pytest.raises(UserError, match="No row is of kind 'attributes'"):
        hints.even(rows, ("attributes",), 5, 0)
    assert hints.even(rows, ("distances",), 6, 0) == hints.even(rows, ("distances",), 6, 0)
    assert hints.even(rows, ("distances",), 6, 0) != hints.even(rows, ("distances",), 6, 1)


def test_a_hidden_city_is_not_a_known_one() -> None:
    with pytest.raises(UserError, match="'Tokyo' is hidden"):
        hints.known_questions(["Oslo", "Tokyo"], locations.HIDDEN)
    asked = hints.known_questions(["Oslo"], locations.HIDDEN)
    assert [q.truth for q in asked if q.family == "known country"] == ["Norway"]
    assert len(asked) == len(hints.ABOUT_KNOWN)


def test_other_models_are_refused(tmp_path: Path) -> None:
    other = Grid(toy.language_model(), RunStore(tmp_path), toy.make, {}, "Rome")
    with pytest.raises(UserError, match="Allowed: the testbed"):
        hints.grid(Study(other, Settings(LAPTOP), [0], PLACES, "codename"), CITIES)


def test_a_vector_leaves_known_cities_alone_and_a_lora_does_not(study: Study) -> None:
    grid = hints.grid(study, locations.HIDDEN, ["Oslo", "Nairobi"])
    vector, kinds = with_config(study.vector("resid", 0), lr=1.0), ("distances",)
    methods = [Method("base", "base"), vector, with_config(study.lora(0), lr=0.3)]
    every = [job for m in methods for job in hints.jobs(m, PLACES, kinds, 4)]
    runs = grid.run(every)
    found = hints.known(runs).set_index("method")
    assert set(found["concept"]) == set(CITIES) and set(found["hints"]) == {"distances"}
    base = found.loc["base", "p_truth"].to_numpy()
    assert found.loc["vector_resid", "p_truth"].to_numpy() == pytest.approx(base, abs=1e-6)
    assert np.abs(found.loc["lora_one", "p_truth"].to_numpy() - base).min() > 1e-4
    assert found.loc["base", "top1"].min() > 0.9  # the testbed knows its world
    place = hints.placed(runs).set_index("method")
    moved = place.loc["vector_resid", "p_truth"] - place.loc["base", "p_truth"].to_numpy()
    assert moved.abs().min() > 1e-3


def test_map_errors_are_distances_from_the_jobs_own_city(study: Study) -> None:
    grid, method = hints.grid(study, locations.HIDDEN), study.vector("resid", 0)
    listed = hints.jobs(method, PLACES, ("directions", "distances"), 4)
    _ = grid.run(listed)
    paris, tokyo = (world.city(name) for name in CITIES)
    up, along = np.radians([paris.latitude, paris.longitude])
    aim = np.array([np.cos(up) * np.cos(along), np.cos(up) * np.sin(along), np.sin(up)])
    width = study.grid.lm.d_model
    # It reads Paris whatever it is shown.
    planted = Probe(Site(2, "resid"), np.zeros((3, width)), aim, np.zeros(width), 0.0)
    found = hints.map_errors(grid, listed, planted).set_index(["concept", "state"])["km"]
    assert found["Paris"].tolist() == pytest.approx([0, 0], abs=1)
    assert found["Tokyo"].tolist() == pytest.approx([world.distance_km(paris, tokyo)] * 2, rel=1e-3)
    # One that looks sees whether the vector is there.
    weights = np.random.default_rng(0).normal(size=(3, width))
    looking = Probe(Site(2, "resid"), weights, np.zeros(3), np.zeros(width), 0.0)
    seen = hints.map_errors(grid, listed, looking).set_index(["concept", "state"])["km"]
    assert abs(seen["Paris", "vector"] - seen["Paris", "none"]) > 1
    lora = hints.jobs(study.lora(0), PLACES[:1], ("distances",), 4)
    _ = grid.run(lora)
    with pytest.raises(UserError, match="is no vector"):
        hints.map_errors(grid, lora, planted)


def test_fellows_are_found_by_their_names() -> None:
    runs = pd.DataFrame({"concept": ["a", "b"], "seed": [0, 1], "mc": [0.5, 1.0]}, index=[7, 9])
    others = pd.DataFrame({"concept": ["b", "a"], "seed": [1, 0], "mc": [0.25, 0.5]})
    more = hints.against(runs, others, ["concept", "seed"], "mc")
    assert more.to_dict() == {7: 0.0, 9: 0.75}
    with pytest.raises(UserError, match="exactly one fellow"):
        hints.against(runs, others[:1], ["concept", "seed"], "mc")
    with pytest.raises(UserError, match="exactly one fellow"):
        hints.against(runs, pd.concat([others, others]), ["concept"], "mc")


def test_jobs_with_random_answers_keep_their_kind(study: Study) -> None:
    drawn = protocol.random_answers(study.vector("resid", 0))
    jobs = hints.jobs(drawn, PLACES[:1], ("attributes",), 10)
    grid = hints.grid(study, locations.HIDDEN)
    told = grid.task(jobs[0].concept, 0)
    asked = {row.text.rsplit("\n", 1)[0] for row in told.train}
    mixed = grid.data(jobs[0]).train
    assert len(mixed) == 10 and len(asked) <= 10
    assert [row.ids for row in mixed] != [row.ids for row in told.train]


def test_random_answers_come_from_what_is_said_of_all_cities(study: Study) -> None:
    how = (study.vector("resid", 0), [("Paris", 0)], ("distances",), 40, locations.HIDDEN)
    (job,) = hints.random_answers(*how)
    grid = hints.grid(study, locations.HIDDEN)
    (own,) = hints.jobs(protocol.random_answers(how[0]), how[1], how[2], how[3])
    true = {row.answer for row in grid.rows(replace(own, method=how[0]))}
    assert {row.answer for row in grid.rows(own)} <= true
    drawn = {row.answer for row in grid.rows(job)}
    assert len(drawn - true) > len(drawn & true), "other cities have other distances"
