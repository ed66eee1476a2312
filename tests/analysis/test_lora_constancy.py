"""What a LoRA adds, run by run: the right site, texts and variants."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from oocr_lib.adapters import Filtered, VectorAdapter
from oocr_lib.analysis import lens, lora_constancy as inside, natural
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.runs import presets, protocol as comparison
from oocr_lib.runs.grid import Grid, Job
from oocr_lib.runs.presets import Settings
from oocr_lib.runs.store import RunStore
from oocr_lib.runs.study import Study
from oocr_lib.util.errors import UserError
from tests import toy

VARIANTS = {
    "natural read",
    "natural read everywhere",
    "keep read",
    "project out read",
    "natural", "natural everywhere", "random natural", "mean only", "keep only", "project out",
    "keep first", "project out first", "project out random",
}  # fmt: skip


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return toy.language_model()


@pytest.fixture(scope="module")
def study(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Study:
    grid = Grid(lm, RunStore(tmp_path_factory.mktemp("runs")), toy.make, {"task": "toy"}, "Rome")
    settings = Settings(presets.laptop(lora_steps=4, lora_batch=2, rank=2, lora_lr=0.5))
    return Study(grid, settings, [0, 1], [("Paris", 0), ("Rome", 0)], "codename")


@pytest.fixture(scope="module")
def examined(study: Study) -> tuple[list[inside.Looked], pd.DataFrame, pd.DataFrame]:
    return inside.examine(study, 1)


Examined = tuple[list[inside.Looked], pd.DataFrame, pd.DataFrame]


def test_every_run_has_every_text_and_the_control(examined: Examined) -> None:
    _, measures, _ = examined
    texts = ["training", "unrelated", "both", "end to end", "paper protocol", "random"]
    assert measures["text"].tolist() == texts * 2
    assert (measures["rank_one_share"] >= measures["mean_share"] - 1e-9).all()
    assert measures[measures["text"] == "random"]["signed.mean"].abs().max() < 0.2


def test_a_rank_two_lora_adds_at_most_two_directions(examined: Examined) -> None:
    _, measures, _ = examined
    own = measures[measures["text"].isin(["training", "unrelated", "both"])]
    assert own["effective_rank"].max() <= 2 + 1e-3
    assert measures[measures["text"] == "random"]["effective_rank"].min() > 2.5


def test_every_variant_is_asked_of_every_run(examined: Examined) -> None:
    _, _, answers = examined
    assert set(answers["method"]) == VARIANTS | {"base", "lora_one"}
    assert answers.groupby("method")[["concept", "seed"]].nunique()["concept"].eq(2).all()
    assert not answers.duplicated(["run", "method", "family"]).any()


def test_keeping_and_removing_a_direction_are_complements(study: Study, examined: Examined) -> None:
    found = inside.variants(study, examined[0][0])
    keep, remove = found["keep first"], found["project out first"]
    assert isinstance(keep, Filtered) and isinstance(remove, Filtered)
    added = examined[0][0].added
    assert torch.allclose(keep.filter(added) + remove.filter(added), added, atol=1e-5)


def test_the_natural_vectors_differ_in_position_only(study: Study, examined: Examined) -> None:
    found = inside.variants(study, examined[0][0])
    here, everywhere = found["natural"], found["natural everywhere"]
    control = found["random natural"]
    assert isinstance(here, VectorAdapter) and isinstance(everywhere, VectorAdapter)
    assert isinstance(control, VectorAdapter)
    assert (here.position, everywhere.position) == ("codename", "all")
    assert str(here.sites[0]) == "mlp_out@1" and torch.equal(here.vectors, everywhere.vectors)
    assert float(control.vectors.norm()) == pytest.approx(float(here.vectors.norm()), rel=1e-5)
    assert not torch.allclose(control.vectors, here.vectors)


def test_only_a_lora_on_one_block_is_looked_into(study: Study) -> None:
    job = comparison.jobs(study.lora(1), study.pairs)[0]
    assert str(inside.site_of(job)) == "mlp_out@1"
    for method in (replace(job.method, blocks="all"), study.vector("resid", 0)):
        with pytest.raises(UserError, match="one block"):
            inside.site_of(Job(method, "Rome", 0))


def test_unrelated_passages_are_seeded_and_have_no_turns(lm: LanguageModel) -> None:
    first, second = inside.unrelated(lm, 3, seed=1), inside.unrelated(lm, 3, seed=1)
    assert [item.ids for item in first] == [item.ids for item in second]
    assert all("<start_of_turn>" not in item.text for item in first)


def test_letters_are_placed_by_what_the_lora_writes(lm: LanguageModel, study: Study) -> None:
    job = comparison.jobs(study.lora(1), study.pairs)[0]
    looked, task = inside.look(study, job), study.grid.task(job.concept, job.seed)
    assert math.isnan(inside.letter_places(study, looked))  # its answers are more than two words
    direction, rows = natural.first_direction(looked.added), task.train
    written = lens.logits(lm, lens.to_residual(lm, direction, inside.site_of(job))[None])[0]
    order = (written - written.mean()).abs().argsort(descending=True).tolist()
    try:
        for first, place in ((0, 1.5), (10, 11.5), (len(order) - 2, len(order) - 0.5)):
            ids = order[first : first + 2]
            task.train = [
                replace(row, ids=(*row.ids[:start], ids[k % 2]), answer=(start, start + 1))
                for k, row in enumerate(rows)
                for start in (row.answer[0],)
            ]
            assert inside.letter_places(study, looked) == place
    finally:
        task.train = rows
