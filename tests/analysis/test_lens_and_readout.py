"""Reading vectors: planted concepts are found, random ones are not, on the shipped testbed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from oocr_lib.analysis import lens_and_readout as reading, norms
from oocr_lib.models.sites import Site
from oocr_lib.notebook.session import Experiment
from oocr_lib.runs import protocol as comparison, suite
from oocr_lib.runs.study import Study

BLOCK = 1


@pytest.fixture(scope="module")
def study(exp: Experiment) -> Study:
    return suite.study(exp, "locations", 4, steps=2, lora_steps=1, seeds=3)


@pytest.fixture(scope="module")
def vectors(study: Study) -> reading.Vectors:
    return reading.learned(study, BLOCK, study.pairs)


def planted(study: Study, vectors: reading.Vectors) -> reading.Vectors:
    """Each vector along the unembedding of its concept's words."""
    lm = study.grid.lm
    head = lm.model.get_output_embeddings().weight.detach().float()
    centred = head - head.mean(0)
    sets = [list(reading.words_of(lm, "locations", c)) for c in vectors.concepts]
    raw = torch.stack([centred[ids].mean(0) for ids in sets])
    return replace(vectors, method="planted", raw=raw)


def test_vectors_are_those_of_the_runs(study: Study, vectors: reading.Vectors) -> None:
    assert vectors.concepts == [concept for concept, _ in study.pairs]
    assert vectors.raw.shape == (4, study.grid.lm.d_model)
    again = reading.learned(study, BLOCK, study.pairs[1:2])
    assert torch.equal(again.raw[0], vectors.raw[1])


def test_planted_words_are_found_and_those_of_others_are_not(
    study: Study, vectors: reading.Vectors
) -> None:
    table = reading.score_lens(study, planted(study, vectors), controls=50)
    assert table["percentile"].min() > 0.95 and table["rank"].max() < 200
    assert (table["percentile"] > table["other"]).all()
    assert table["words"].min() >= 4 and table["concept"].tolist() == vectors.concepts


def test_random_vectors_are_as_long_and_show_nothing(
    study: Study, vectors: reading.Vectors
) -> None:
    many = replace(vectors, jobs=list(vectors.jobs) * 10, raw=vectors.raw.repeat(10, 1))
    chance = reading.random_like(many, seed=3)
    assert torch.allclose(chance.raw.norm(dim=1), many.raw.norm(dim=1))
    found = reading.score_lens(study, chance, controls=50)["percentile"]
    assert 0.35 < found.mean() < 0.65


def test_a_readout_finds_the_stated_concept(study: Study, vectors: reading.Vectors) -> None:
    at = reading.activations(study, BLOCK)
    assert len(at) >= 100 and {a.shape for a in at.values()} == {(8, study.grid.lm.d_model)}
    mean = torch.stack(list(at.values())).mean((0, 1))
    raw = torch.stack([at[concept].mean(0) - mean for concept in vectors.concepts])
    table = reading.readout(replace(vectors, raw=raw), at)
    assert table["top1"].eq(1).all() and table["trust"].min() > 0.9
    assert table["chance"].iloc[0] == pytest.approx(1 / len(at))
    wrong = reading.readout(replace(vectors, raw=-raw), at)
    assert wrong["top1"].eq(0).all() and wrong["rank"].min() > 50


def test_naive_vectors_are_the_difference_of_names(study: Study) -> None:
    pairs, site = study.pairs[:2], Site(BLOCK, "resid")
    made = reading.of_names(study, BLOCK, pairs)
    job = comparison.jobs(study.vector("resid", BLOCK), pairs)[1]
    assert torch.equal(made.raw[1], reading.naive_vectors(study, job, [site])[site])
    at = reading.activations(study, BLOCK)
    assert reading.readout(made, at)["top1"].eq(1).all()
    assert reading.where(study) == "codename"


def test_vectors_of_loras_reach_the_residual_stream(study: Study) -> None:
    made = reading.of_loras(study, BLOCK, study.pairs[:1])
    assert made.method == "natural" and made.raw.shape == (1, study.grid.lm.d_model)
    typical = study.grid.scale(Site(BLOCK, "resid"), "codename")
    assert 0 < float(made.raw.norm()) < 10 * typical
    assert norms.post_norm(study.grid.lm, Site(BLOCK, "mlp_out")) is not None


@pytest.mark.parametrize("task", ["functions", "risk", "backdoor"])
def test_every_task_can_be_read(exp: Experiment, task: str) -> None:
    few: dict[str, Any] = {"steps": 1} | ({"seeds": 3} if task != "risk" else {})
    other = suite.study(exp, task, 2, **few)
    made = reading.learned(other, BLOCK, other.pairs)
    table = reading.score_lens(other, made, norm=True, controls=20)
    assert table["percentile"].between(0, 1).all() and table["norm"].all()
    at = reading.activations(other, BLOCK)
    found = reading.readout(made, at)
    assert set(found["concept"]) <= set(at) and found["rank"].between(1, len(at)).all()
