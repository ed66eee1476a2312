"""Planted parts come out, whatever else the seeds do; controls are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from oocr_lib.analysis import format_and_concept as parts
from oocr_lib.runs import protocol
from oocr_lib.runs.grid import Grid, Job, Method
from oocr_lib.runs.presets import LAPTOP, Settings
from oocr_lib.runs.store import RunStore
from oocr_lib.runs.study import Study
from oocr_lib.util.errors import UserError
from tests import toy

D, SEEDS = 64, 3
NAMES = ("a", "b", "c", "d")


def drawn(number: int, seed: int) -> Tensor:
    """``number`` unit vectors, (number, D)."""
    made = torch.randn(number, D, generator=torch.Generator().manual_seed(seed))
    return made / made.norm(dim=1, keepdim=True)


def planted(shared: float, concept: float, noise: float) -> parts.Twins:
    """Every run: lengths of the shared part, of its concept's, and of what its seed does."""
    own, pairs = [], [(n, s) for n in range(len(NAMES)) for s in range(SEEDS)]
    concepts = drawn(len(NAMES), 1)
    concepts = concepts - concepts.mean(0)
    for (n, _), e in zip(pairs, drawn(len(pairs), 2), strict=True):
        own.append(shared * drawn(1, 0)[0] + concept * concepts[n] + noise * e)
    return parts.twins(torch.stack(own), [NAMES[n] for n, _ in pairs], [s for _, s in pairs])


def mean_shares(found: parts.Twins) -> list[float]:
    return parts.shares(found).mean().tolist()


def test_shared_alone() -> None:
    assert mean_shares(planted(3, 0, 0)) == pytest.approx([1, 0, 0], abs=1e-6)
    shared, concept, seed = mean_shares(planted(3, 0, 1))
    assert shared == pytest.approx(0.9, abs=0.05) and abs(concept) < 0.03
    assert seed == pytest.approx(0.1, abs=0.05)


def test_concept_alone() -> None:
    shared, concept, seed = mean_shares(planted(0, 3, 0))
    assert [shared, concept, seed] == pytest.approx([0, 1, 0], abs=1e-6)
    assert abs(mean_shares(planted(0, 3, 1))[0]) < 0.05
    found = parts.alike(planted(0, 3, 0.3), drawn(12, 5))
    assert float(found["cosine concept"].mean()) > 0.9
    assert abs(float(found["cosine random"].mean())) < 0.2


def test_a_seed_alone_is_neither() -> None:
    shared, concept, seed = mean_shares(planted(0, 0, 1))
    assert abs(shared) < 0.06 and abs(concept) < 0.06 and seed > 0.9


def test_shares_of_a_run_sum_to_its_energy() -> None:
    found = planted(2, 1, 1)
    energy = found.own.square().sum(1)
    summed = torch.tensor(parts.shares(found).sum(axis=1).tolist(), dtype=torch.float64)
    assert torch.allclose(summed, energy / energy.mean())


def test_means_leave_out_runs_of_the_own_seed() -> None:
    own = torch.eye(4, D) + 1
    found = parts.twins(own, ["a", "a", "b", "b"], [0, 1, 0, 1])
    assert torch.equal(found.same, own[[1, 0, 3, 2]].double())
    assert torch.equal(found.shared[0], (own[1] + own[3]).double() / 2)
    assert torch.equal(found.concept, found.own - found.shared)


@pytest.mark.parametrize(
    ("concepts", "seeds", "words"),
    [
        (["a", "a"], [0, 1], "there is one concept, 'a'"),
        (["a", "b"], [0, 0], "'a' has one seed"),
        (["a", "a"], [0, 0], "no run twice"),
        (["a"], [0, 1], "do not fit"),
    ],
)
def test_what_cannot_be_told_apart(concepts: list[str], seeds: list[int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        parts.twins(torch.ones(2, D), concepts, seeds)


def test_vectors_to_add_and_their_controls() -> None:
    pairs = [(n, s) for n in NAMES for s in range(SEEDS)]
    jobs = [Job(Method("lora_one", "lora", blocks=(0,)), n, s) for n, s in pairs]
    found, fooled = planted(2, 1, 0.1), drawn(12, 7)
    made = parts.added(found, fooled, jobs)
    assert torch.allclose(made["shared part"] + made["concept part"], made["whole"], atol=1e-5)
    for k, job in enumerate(jobs):
        other = jobs.index(Job(job.method, NAMES[(NAMES.index(job.concept) + 1) % 4], job.seed))
        expected = made["shared part"][k] + made["concept part"][other]
        assert torch.allclose(made["other part"][k], expected, atol=1e-5)
    length = (made["random part"] - made["shared part"]).norm(dim=1)
    assert torch.allclose(length, made["concept part"].norm(dim=1), atol=1e-4)
    assert torch.equal(made["random answers"], fooled)


@pytest.mark.parametrize("kind", ["lora", "vector"])
def test_a_method_is_taken_apart_on_every_run(tmp_path: Path, kind: str) -> None:
    grid = Grid(toy.language_model(), RunStore(tmp_path), toy.make, {}, "Rome")
    few = {"lora_steps": 2, "lora_batch": 4, "rank": 2, "steps": 2, "batch": 4}
    pairs = [(c, s) for c in ("Rome", "Oslo") for s in (0, 1)]
    study = Study(grid, Settings({**LAPTOP, **few}), [0, 1], pairs, "codename")
    method = study.lora(0) if kind == "lora" else study.vector("resid", 0)
    table, told = parts.examine(study, method, ("name",), control=kind == "lora")
    assert len(table) == 4 and table.select_dtypes("number").notna().all(axis=None)
    names = ["base", method.name, "whole", "shared part", "concept part", "other part"]
    names.append("random part")
    if kind == "lora":
        names += [f"{name} everywhere" for name in parts.PARTS]
        names += [
            "random answers",
            "only shared part",
            "only concept part",
            "without shared part",
            "without concept part",
        ]
    assert set(told["method"]) == set(names)
    asked = told[told.family == "name"]
    assert len(asked) == 4 * len(names) and not asked["run"].duplicated().any()
    own = parts.vectors(study, protocol.jobs(method, pairs))
    assert own.shape == (4, grid.lm.d_model)
