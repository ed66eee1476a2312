"""Naive vectors, random starts and lines between vectors, on the shipped testbed."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from oocr_lib.analysis import lens_and_readout as reading, vector_comparison as alternatives
from oocr_lib.models.sites import Site
from oocr_lib.notebook.session import Experiment
from oocr_lib.runs import ask_adapter as asking, suite
from oocr_lib.runs.grid import Job, Method
from oocr_lib.runs.study import Study
from oocr_lib.util.errors import UserError

SITE = Site(0, "resid")


@pytest.fixture(scope="module")
def study(exp: Experiment) -> Study:
    few: dict[str, Any] = {"steps": 2, "sweep_runs": 1}
    return suite.study(exp, "locations", 6, concepts=2, **few)


@pytest.fixture(scope="module")
def vectors(study: Study) -> reading.Vectors:
    return reading.learned(study, 0, study.pairs)


def test_few_concepts_give_pairs_of_seeds(study: Study) -> None:
    assert len(set(study.pairs)) == 6
    assert {concept for concept, _ in study.pairs} == {"Paris", "São Paulo"}
    assert {seed for _, seed in study.pairs} == {0, 1, 2}


def test_vectors_answer_as_their_runs_did(study: Study, vectors: reading.Vectors) -> None:
    table = alternatives.accuracy(study, "again", vectors.raw, SITE, vectors.jobs)
    before = suite.accuracy("locations", study.grid.run(list(vectors.jobs)))
    assert table["accuracy"].tolist() == pytest.approx(before["accuracy"].tolist(), abs=1e-6)
    assert table["valid_loss"].tolist() == pytest.approx(before["valid_loss"].tolist(), abs=1e-4)
    assert set(table["block"]) == {0}


def test_every_block_has_naive_vectors_and_their_control(study: Study) -> None:
    table = alternatives.naive_by_block(study, study.pairs[:2])
    assert table.groupby(["method", "block"]).size().eq(2).all()
    assert set(table["method"]) == {"naive", "random"}
    assert sorted(set(table["block"])) == list(study.blocks)
    learned = alternatives.learned_by_block(study)
    assert sorted(learned["block"]) == list(study.blocks)


def test_random_starts_change_the_start_only(study: Study) -> None:
    other = alternatives.random_starts(study, 0.5)
    assert other.settings.vector_init == 0.5 and study.settings.vector_init == 0.0
    assert {**other.settings, "vector_init": 0.0} == dict(study.settings)
    made = reading.learned(other, 0, other.pairs[:2])
    scale = study.grid.scale(SITE, "codename")
    assert made.raw.norm(dim=1).min() > 0.3 * scale


def test_cosines_of_sources_are_run_by_run(vectors: reading.Vectors) -> None:
    flipped = reading.Vectors("flipped", 0, vectors.jobs, -vectors.raw)
    random = reading.random_like(vectors)
    table = alternatives.cosines({"learned": vectors, "flipped": flipped, "random": random})
    first = table[(table["a"] == "learned") & (table["b"] == "flipped")]
    assert first["cosine"].tolist() == pytest.approx([-1.0] * 6)
    assert len(table) == 3 * 6 and first["concept"].tolist() == vectors.concepts
    fewer = reading.Vectors("fewer", 0, vectors.jobs[:2], vectors.raw[:2])
    with pytest.raises(UserError, match="different runs"):
        alternatives.cosines({"learned": vectors, "fewer": fewer})


def test_a_concepts_mean_counts_its_seeds_alike(vectors: reading.Vectors) -> None:
    scaled = reading.Vectors("x", 0, vectors.jobs, vectors.raw * torch.arange(1.0, 7.0)[:, None])
    a, b = alternatives.by_concept(vectors), alternatives.by_concept(scaled)
    assert list(a) == ["Paris", "São Paulo"]
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)


def test_lines_begin_and_end_at_their_vectors(study: Study, vectors: reading.Vectors) -> None:
    jobs, zeros = vectors.jobs[:2], torch.zeros(2, vectors.raw.shape[1])
    table = alternatives.lines(study, "dose", zeros, vectors.raw[:2], SITE, jobs, (0.0, 1.0))
    nothing = [Job(Method("base", "base"), job.concept, job.seed) for job in jobs]
    base = suite.accuracy("locations", study.grid.run(nothing))
    ends = alternatives.accuracy(study, "end", vectors.raw[:2], SITE, jobs)
    for weight, expected in ((0.0, base), (1.0, ends)):
        found = table[table["weight"] == weight]
        assert found["accuracy"].tolist() == pytest.approx(expected["accuracy"].tolist())
        loss = expected["valid_loss"].tolist()
        assert found["valid_loss"].tolist() == pytest.approx(loss, abs=1e-4)
    assert table["valid_loss"].nunique() == 4


def test_lines_are_straight_and_go_on_beyond_their_ends(
    study: Study, vectors: reading.Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Tensor] = []

    def keep(study: Study, method: str, mixed: Tensor, *rest: Any, **options: Any) -> pd.DataFrame:
        asked.append(mixed)
        return pd.DataFrame({"run": ["one", "two"]})

    monkeypatch.setattr(alternatives, "accuracy", keep)
    starts, ends = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[3.0, 4.0], [2.0, -2.0]])
    weights = (0.0, 1.0, 0.5, -1.0, 2.0)
    table = alternatives.lines(study, "line", starts, ends, SITE, vectors.jobs[:2], weights)
    assert [one.tolist() for one, _ in asked] == [[1, 0], [3, 4], [2, 2], [-1, -4], [5, 8]]
    assert [two.tolist() for _, two in asked] == [[0, 0], [2, -2], [1, -1], [-2, 2], [4, -4]]
    assert table["weight"].tolist() == [weight for weight in weights for _ in range(2)]


def test_vectors_that_do_not_fit_are_refused_before_anything_is_asked(
    study: Study, vectors: reading.Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("something was asked")

    for name in ("score", "validate"):
        monkeypatch.setattr(asking, name, never)
    jobs, one = vectors.jobs[:1], vectors.raw[:1]
    cases: list[tuple[Tensor, Site, list[Job], str]] = [
        (one[0], SITE, [*jobs], r"\(128,\)"),
        (one[:0], SITE, [], r"\(0, 128\)"),
        (one, SITE, [*jobs] * 2, "2 runs"),
        (one * float("inf"), SITE, [*jobs], "finite"),
        (one * float("nan"), SITE, [*jobs], "finite"),
        (one[:, :5], SITE, [*jobs], "width 5"),
        (one, Site(9, "resid"), [*jobs], "Block 9"),
    ]
    for raw, site, asked, reason in cases:
        with pytest.raises(UserError, match=reason) as caught:
            alternatives.accuracy(study, "wrong", raw, site, asked)
        assert "\n" not in str(caught.value)


def test_partners_share_the_concept_or_do_not(vectors: reading.Vectors) -> None:
    jobs = vectors.jobs
    for same in (True, False):
        pairs = alternatives.partners(jobs, same_concept=same)
        assert len(pairs) == 6 and all(i != j for i, j in pairs)
        assert all((jobs[i].concept == jobs[j].concept) == same for i, j in pairs)
    assert alternatives.partners(jobs[:1], same_concept=True) == []


def test_seeds_and_concepts_are_told_apart(vectors: reading.Vectors) -> None:
    table = alternatives.across(vectors).set_index("relation")
    assert table.loc["same concept, other seed", "pairs"] == 6
    assert table["value"].between(-1, 1).all()
