"""Many runs: batched where possible, reused where finished, the same however they are cut."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from oocr_lib.activations import typical_norm
from oocr_lib.adapters import LoraAdapter, LoraGroup, VectorAdapter
from oocr_lib.encoding import collate
from oocr_lib.evaluation.scores import score
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.runs import grid as module, planner as sharing
from oocr_lib.runs.grid import Grid, Job, Method, best_by_validation, cross, with_config
from oocr_lib.runs.store import RunStore
from oocr_lib.tasks.base import Task
from oocr_lib.training.loop import TrainConfig
from oocr_lib.util.errors import UserError
from tests import toy

CONFIG = TrainConfig(steps=3, batch=2, lr=0.1, warmup=1, snapshot_every=2)
BASE = Method("base", "base")
VECTOR = Method("vector_resid", "vector", site="resid@0", config=CONFIG)
DEEPER = Method("vector_mlp_out", "vector", site="mlp_out@1", config=CONFIG)
LORA = Method("lora_one", "lora", blocks=(1,), rank=2, config=CONFIG)
METHODS = (BASE, VECTOR, DEEPER, LORA)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return toy.language_model()


def make(lm: LanguageModel, root: Path, **kwargs: Any) -> Grid:
    return Grid(lm, RunStore(root), toy.make, {"task": "toy"}, "Rome", **kwargs)


@pytest.fixture
def grid(lm: LanguageModel, tmp_path: Path) -> Grid:
    return make(lm, tmp_path)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of runs of each call of ``train``."""
    calls, original = list[int](), module.train

    def counting(lm: Any, adapter: Any, data: Sequence[Any], config: Any, **more: Any) -> Any:
        calls.append(len(data))
        return original(lm, adapter, data, config, **more)

    monkeypatch.setattr(module, "train", counting)
    return calls


# --- the table ---


def test_one_row_a_job_and_family_in_the_order_of_the_jobs(grid: Grid) -> None:
    jobs = cross(METHODS, ("Paris", "Rome"), (0, 1))
    table = grid.run(jobs)
    families = ["name", "place", "all"]
    expected = [(j.method.name, j.concept, j.seed, f) for j in jobs for f in families]
    found = table[["method", "concept", "seed", "family"]].itertuples(index=False)
    assert [tuple(row) for row in found] == expected
    assert table["run"].nunique() == len(jobs) == 16
    assert not table.isna().any().any()
    where = table.drop_duplicates("method").set_index("method")[["site", "block"]]
    assert where.loc["vector_mlp_out"].tolist() == ["mlp_out", 1]
    assert where.loc["lora_one"].tolist() == ["lora", 1]
    assert where.loc["base"].tolist() == ["base", -1]
    assert (table["length"] > 0).tolist() == table["method"].str.startswith("vector").tolist()


def test_a_lora_on_all_blocks_has_no_block(grid: Grid) -> None:
    table = grid.run([Job(Method("lora_all", "lora", blocks="all", config=CONFIG), "Rome", 0)])
    assert set(table["block"]) == {-1}


def test_kept_numbers_are_those_of_the_trained_vector(grid: Grid) -> None:
    (run,) = grid.run([Job(VECTOR, "Rome", 0)]).groupby("run").groups
    (kept,) = grid.runs([Job(VECTOR, "Rome", 0)])
    assert kept.id == run
    tensors = kept.tensors()
    assert tensors["theta"].shape == (grid.lm.d_model,)
    assert torch.equal(tensors["theta_steps"][-1], tensors["theta"])
    assert len(tensors["theta_steps"]) == len(kept.results["steps"]) == 3
    assert kept.results["length"] == pytest.approx(float(tensors["theta"].norm()))
    assert float(tensors["scale"]) == pytest.approx(grid.scale(Site(0, "resid"), "codename"))
    assert len(kept.results["losses"]) == 3 and len(kept.results["questions"]) == 3


def test_the_kept_vector_gives_the_kept_scores(grid: Grid) -> None:
    table = grid.run([Job(VECTOR, "Rome", 1)])
    (run,) = grid.runs([Job(VECTOR, "Rome", 1)])
    tensors = run.tensors()
    adapter = VectorAdapter(["resid@0"], grid.lm.d_model, "codename", [float(tensors["scale"])])
    adapter.theta.data.copy_(tensors["theta"][None])
    with adapter.attach(grid.lm) as attached:
        again = module.score(grid.lm, toy.questions("Rome"), attached)
    expected = module.summarise(again)
    for row in table.to_dict("records"):
        assert row["p_truth"] == pytest.approx(expected[row["family"]]["p_truth"], abs=1e-4)


# --- reuse ---


def test_finished_runs_are_not_computed_again(
    lm: LanguageModel, grid: Grid, trained: list[int]
) -> None:
    jobs = cross(METHODS, ("Paris", "Rome"), (0,))
    first = grid.run(jobs)
    count = len(trained)
    assert count == 2  # all vectors in one batch, both LoRAs in another
    assert grid.run(jobs).equals(first)
    assert make(lm, grid.store.root).run(jobs).equals(first)
    assert len(trained) == count


def test_loras_at_marked_tokens_share_a_batch_and_what_comes_before(
    lm: LanguageModel, tmp_path: Path, trained: list[int]
) -> None:
    method = replace(LORA, lora_position="codename", config=replace(CONFIG, steps=20))
    jobs = [Job(method, "Rome", 0), Job(replace(method, blocks=(0,)), "Rome", 0)]
    reused, plain = make(lm, tmp_path / "a"), make(lm, tmp_path / "b", reuse=False)
    tables = [grid.run(jobs) for grid in (reused, plain)]
    assert (
        trained == [2, 2] and reused.executors.pools is not None and reused.executors.pools.size > 0
    )
    for one, other in zip(reused.runs(jobs), plain.runs(jobs), strict=True):
        assert one.results["losses"] == pytest.approx(other.results["losses"], abs=2e-5)
    assert tables[0]["p_truth"].tolist() == pytest.approx(tables[1]["p_truth"].tolist(), abs=1e-4)
    spec = reused.spec(jobs[0])["method"]
    assert spec["lora_position"] == "codename"
    assert "lora_position" not in reused.spec(Job(VECTOR, "Rome", 0))["method"]
    group = reused.trained(jobs)
    assert isinstance(group, LoraGroup) and group.adapters[0].position == "codename"


def test_a_killed_sweep_continues_bitwise_where_it_stopped(
    lm: LanguageModel, tmp_path: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "CAPACITY", 2)
    jobs = [*cross([VECTOR, DEEPER], ("Paris", "Rome"), (0, 1)), Job(LORA, "Rome", 0)]
    whole = make(lm, tmp_path / "whole")
    whole.run(jobs)
    assert trained == [2, 2, 2, 2, 1]
    killed, saves = make(lm, tmp_path / "killed"), itertools.count()
    original = killed.store.save

    def dies(*args: Any, **kwargs: Any) -> Any:
        if next(saves) == 5:  # in the middle of the third batch
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(killed.store, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        killed.run(jobs)
    trained.clear()
    again = make(lm, tmp_path / "killed")
    table = again.run(jobs)
    assert trained == [2, 2, 1], "the first two batches were finished"
    assert table.drop(columns="seconds").equals(whole.run(jobs).drop(columns="seconds"))
    for one, other in zip(whole.runs(jobs), again.runs(jobs), strict=True):
        assert one.results == other.results
        a, b = one.tensors(), other.tensors()
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_another_name_for_the_same_computation_is_the_same_run(
    grid: Grid, trained: list[int]
) -> None:
    first = grid.run([Job(VECTOR, "Rome", 0)])
    other = Method("mine", "vector", site="resid@0", config=CONFIG)
    second = grid.run([Job(other, "Rome", 0)])
    assert len(trained) == 1 and set(second["method"]) == {"mine"}
    assert second["run"].tolist() == first["run"].tolist()


@pytest.mark.parametrize(
    "change",
    [
        Job(VECTOR, "Rome", 1),
        Job(VECTOR, "Paris", 0),
        Job(DEEPER, "Rome", 0),
        Job(with_config(VECTOR, lr=0.2), "Rome", 0),
        Job(Method("shuffled", "vector", site="resid@0", config=CONFIG, shuffled=True), "Rome", 0),
        Job(Method("v", "vector", site="resid@0", position="last", config=CONFIG), "Rome", 0),
    ],
)
def test_whatever_determines_the_numbers_makes_another_run(
    grid: Grid, trained: list[int], change: Job
) -> None:
    grid.run([Job(VECTOR, "Rome", 0)])
    grid.run([change])
    assert len(trained) == 2


def test_another_model_task_or_thread_count_makes_another_run(
    lm: LanguageModel, grid: Grid, tmp_path: Path
) -> None:
    job = Job(VECTOR, "Rome", 0)
    grid.run([job])
    other_model = Grid(toy.language_model(1), grid.store, toy.make, {"task": "toy"}, "Rome")
    other_task = Grid(lm, grid.store, toy.make, {"task": "toy", "share": 0.5}, "Rome")
    for other in (other_model, other_task):
        with pytest.raises(UserError, match="have not been run"):
            other.runs([job])
    assert grid.runs([job])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        with pytest.raises(UserError, match="have not been run"):
            grid.runs([job])
    finally:
        torch.set_num_threads(threads)


# --- batches ---


def test_vectors_share_batches_across_sites_concepts_and_seeds(
    grid: Grid, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "CAPACITY", 5)
    jobs = cross([VECTOR, DEEPER], ("Paris", "Rome"), (0, 1))
    faster = Job(with_config(VECTOR, lr=0.2), "Rome", 0)
    together = grid.run([*jobs, faster])
    assert trained == [5, 4], "another learning rate shares the batch, too"
    monkeypatch.setattr(sharing, "CAPACITY", 1)
    alone = make(grid.lm, grid.store.root / "alone").run([*jobs, faster])
    both = together[: len(alone)]
    assert len(together) == len(alone)
    for column in ("p_truth", "valid_loss", "length"):
        assert both[column].tolist() == pytest.approx(alone[column].tolist(), abs=1e-3)


def test_the_capacity_keeps_batches_small() -> None:
    jobs = cross([VECTOR], [f"city {n}" for n in range(30)], (0,))
    sizes = [len(batch) for batch in sharing.batches(jobs)]
    assert sizes == [12, 12, 6] and sharing.CAPACITY == 12
    last = [Job(replace(VECTOR, position="last"), job.concept, 0) for job in jobs * 2]
    assert [len(batch) for batch in sharing.batches(last)] == [40, 20]
    assert [job for batch in sharing.batches(jobs) for job in batch] == jobs


def test_loras_share_batches_except_across_shapes(grid: Grid, trained: list[int]) -> None:
    wider, everywhere = replace(LORA, rank=3), replace(LORA, blocks="all")
    jobs = cross([LORA, with_config(LORA, lr=0.2), wider, everywhere], ("Paris", "Rome"), (0,))
    together = grid.run(jobs)
    assert trained == [4, 2, 2]
    alone = [make(grid.lm, grid.store.root / "alone").run([job]) for job in jobs]
    assert trained[3:] == [1] * 8
    for column in ("p_truth", "valid_loss"):
        apart = pd.concat(alone)[column].tolist()
        assert together[column].tolist() == pytest.approx(apart, abs=1e-3)
    assert isinstance(grid.adapter(jobs[:1]), LoraAdapter)


# --- methods ---


def test_base_and_random_are_not_trained(grid: Grid, trained: list[int]) -> None:
    drawn = Method("random", "random", site="resid@0", length=0.75, config=CONFIG)
    table = grid.run(cross([BASE, drawn], ("Rome",), (0, 1)))
    assert trained == []
    found = table.drop_duplicates("run").set_index(["method", "seed"])["length"]
    assert found["random"].tolist() == pytest.approx([0.75, 0.75]) and not found["base"].any()
    first, second = (run.tensors()["theta"] for run in grid.runs(cross([drawn], ("Rome",), (0, 1))))
    assert float(first @ second) < 0.9 * 0.75**2, "another seed is another direction"
    base = table[table["method"] == "base"].groupby("seed")["p_truth"].mean()
    assert base[0] == pytest.approx(base[1], abs=1e-6)


def test_the_shuffled_control_trains_on_other_answers_and_is_judged_by_true_ones(
    grid: Grid,
) -> None:
    mixed = Method("shuffled", "vector", site="resid@0", config=CONFIG, shuffled=True)
    plain, shuffled = (grid.data(Job(m, "Rome", 0)) for m in (VECTOR, mixed))
    assert [row.ids for row in plain.train] != [row.ids for row in shuffled.train]
    assert [row.ids[: row.answer[0]] for row in plain.train] == [
        row.ids[: row.answer[0]] for row in shuffled.train
    ]
    assert plain.valid == shuffled.valid


def test_random_answers_of_all_concepts_hide_which_one_it_is(grid: Grid) -> None:
    """Drawn from the own rows, the answers still name the concept; from all concepts', none."""
    own = Method("random_answers", "vector", site="resid@0", config=CONFIG, random_answers=True)
    every = replace(own, drawn_from=toy.CONCEPTS)
    given = {m: {row.answer for row in grid.rows(Job(m, "Rome", 0))} for m in (own, every)}
    assert given[own] & {*toy.CONCEPTS} == {"Rome"}
    assert len(given[every] & {*toy.CONCEPTS}) > 1
    plain, mixed, again = (grid.data(Job(m, "Rome", 0)) for m in (VECTOR, own, every))
    assert len({str([row.ids for row in d.train]) for d in (plain, mixed, again)}) == 3
    assert plain.valid == mixed.valid == again.valid
    specs = [grid.spec(Job(m, "Rome", 0)) for m in (own, every)]
    assert specs[0] != specs[1] and "drawn_from" not in specs[0]["method"], "runs are found again"


def test_the_scale_is_the_sites_typical_norm_at_the_code_name(grid: Grid) -> None:
    site = Site(1, "mlp_out")
    rows = grid.task("Rome", 0).valid
    norm = typical_norm(grid.lm, collate(rows, grid.lm.pad_id), site, "codename")
    assert grid.scale(site, "codename") == float(f"{norm:.3g}")
    job = Job(DEEPER, "Paris", 2)
    assert grid.spec(job)["scale"] == grid.scale(site, "codename")
    assert grid.spec(Job(BASE, "Rome", 0))["scale"] is None
    adapter = grid.adapter([job])
    assert isinstance(adapter, VectorAdapter)
    assert adapter.scales.tolist() == pytest.approx([grid.scale(site, "codename")])


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (Method("v", "vector", site="resid@7", config=CONFIG), "Block 7.*0 to 2"),
        (Method("v", "vector", site="residue@0", config=CONFIG), "site 'residue'"),
        (Method("l", "lora", blocks=(9,), config=CONFIG), "Block 9"),
    ],
)
def test_a_wrong_method_gives_one_line_and_leaves_nothing(
    grid: Grid, method: Method, words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        grid.run([Job(method, "Rome", 0)])
    assert "\n" not in str(caught.value)
    assert not list(grid.store.root.glob("*"))


def test_an_unknown_kind_is_refused_at_once() -> None:
    with pytest.raises(UserError, match=r"kind of method 'vektor'.*Did you mean 'vector'"):
        Method("v", "vektor")
    with pytest.raises(UserError, match=r"position 'lust'.*Did you mean 'last'"):
        Method("v", "vector", site="resid@0", position="lust")


def test_blocks_and_maps_may_be_lists() -> None:
    """Methods are keys of dictionaries, which a list cannot be part of."""
    listed = Method("l", "lora", blocks=[0, 1], modules=["up"])
    assert {listed: 1}[Method("l", "lora", blocks=(0, 1), modules=("up",))] == 1


def test_choices_are_made_by_validation_loss_alone(grid: Grid) -> None:
    methods = [with_config(VECTOR, lr=lr) for lr in (1e-4, 0.1, 100.0)]
    table = grid.run(cross(methods, ("Paris", "Rome"), (0,)))
    losses = {lr: part["valid_loss"].mean() for lr, part in table.groupby("lr")}
    assert best_by_validation(table, "lr") == min(losses, key=losses.__getitem__)
    table["mc"] = (table["lr"] == 100.0).astype(float)  # the questions would choose this one
    assert best_by_validation(table, "lr") == min(losses, key=losses.__getitem__)


def test_with_config_changes_only_what_is_named() -> None:
    changed = with_config(VECTOR, lr=0.7)
    assert changed.config.lr == 0.7 and changed.config.steps == CONFIG.steps
    assert VECTOR.config.lr == 0.1 and changed.site == VECTOR.site


# --- the model's own units, starts, dropout ---


def test_a_raw_vector_is_in_the_models_own_units(grid: Grid) -> None:
    """The paper's learning rates and lengths are absolute; ours are in units of the site's norm."""
    raw, scaled = replace(VECTOR, raw=True), VECTOR
    adapter = grid.adapter([Job(raw, "Rome", 0)])
    assert isinstance(adapter, VectorAdapter) and adapter.scales.tolist() == [1.0]
    assert grid.spec(Job(raw, "Rome", 0))["scale"] == 1.0
    norm = grid.scale(Site(0, "resid"), "codename")
    assert grid.spec(Job(scaled, "Rome", 0))["scale"] == norm != 1.0
    table = grid.run([Job(raw, "Rome", 0), Job(scaled, "Rome", 0)])
    assert table["run"].nunique() == 2
    jobs = [Job(method, "Rome", 0) for method in (raw, scaled)]
    first, second = (run.tensors()["theta"] for run in grid.runs(jobs))
    assert not torch.allclose(first, second)


def test_vectors_start_with_the_wanted_length_by_their_seed(grid: Grid) -> None:
    started = replace(VECTOR, init=0.25, raw=True)
    adapter = grid.adapter([Job(started, "Rome", 0), Job(started, "Paris", 3)])
    assert isinstance(adapter, VectorAdapter)
    assert adapter.theta.norm(dim=1).tolist() == pytest.approx([0.25, 0.25])
    alone = grid.adapter([Job(started, "Oslo", 3)])
    assert isinstance(alone, VectorAdapter)
    assert torch.equal(alone.theta[0], adapter.theta[1]), "the seed alone decides"
    zero = grid.adapter([Job(VECTOR, "Rome", 0)])
    assert isinstance(zero, VectorAdapter) and not zero.theta.any()


def test_raw_and_started_vectors_do_not_share_a_batch_with_others(
    grid: Grid, trained: list[int]
) -> None:
    methods = [VECTOR, replace(VECTOR, raw=True), replace(VECTOR, init=0.5), DEEPER]
    table = grid.run(cross(methods, ("Rome",), (0,)))
    assert trained == [2, 1, 1], "the two plain ones share"
    assert table["run"].nunique() == 4


def test_a_random_direction_has_its_length_whatever_the_start_of_trained_ones(grid: Grid) -> None:
    for raw in (False, True):
        drawn = Method(
            "random", "random", site="resid@0", length=0.75, init=2.0, raw=raw, config=CONFIG
        )
        (adapter,) = [grid.adapter([Job(drawn, "Rome", 0)])]
        assert isinstance(adapter, VectorAdapter)
        assert float(adapter.theta.detach().norm()) == pytest.approx(0.75)
        unit = 1.0 if raw else grid.scale(Site(0, "resid"), "codename")
        assert float(adapter.vectors.norm()) == pytest.approx(0.75 * unit)


def test_dropout_reaches_the_lora_and_makes_another_run(grid: Grid) -> None:
    dropped = replace(LORA, dropout=0.5)
    adapter = grid.adapter([Job(dropped, "Rome", 0)])
    assert isinstance(adapter, LoraAdapter) and adapter.config()["dropout"] == 0.5
    plain = grid.adapter([Job(LORA, "Rome", 0)])
    assert isinstance(plain, LoraAdapter) and plain.config()["dropout"] == 0.0
    table = grid.run([Job(LORA, "Rome", 0), Job(dropped, "Rome", 0)])
    losses = table.drop_duplicates("run")["valid_loss"]
    assert len(losses) == 2 and losses.nunique() == 2
    again = make(grid.lm, grid.store.root / "again").run([Job(dropped, "Rome", 0)])
    assert again["valid_loss"].iloc[0] == losses.iloc[1], "dropout is seeded"


def test_the_scale_is_measured_where_the_vector_sits(grid: Grid) -> None:
    """At the position of the method, on rows that have it; other rows would give no number."""
    site = Site(1, "resid")
    rows = grid.task("Rome", 0).valid
    for position in ("codename", "last", "all"):
        norm = typical_norm(grid.lm, collate(rows, grid.lm.pad_id), site, position)
        assert grid.scale(site, position) == float(f"{norm:.3g}")
    assert grid.scale(site, "last") != grid.scale(site, "codename")
    at_last = replace(VECTOR, position="last")
    assert grid.spec(Job(at_last, "Rome", 0))["scale"] == grid.scale(Site(0, "resid"), "last")


def test_rows_without_the_mark_do_not_enter_its_scale(lm: LanguageModel, tmp_path: Path) -> None:
    """Of the backdoor's rows some have no trigger."""

    def some_marked(concept: str, seed: int) -> Task:
        task = toy.make(concept, seed)
        valid = tuple(
            row if number % 2 else replace(row, marks={}) for number, row in enumerate(task.valid)
        )
        return replace(task, valid=valid)

    partly = Grid(lm, RunStore(tmp_path), some_marked, {"task": "partly"}, "Rome")
    marked = [row for row in partly.task("Rome", 0).valid if row.spans.get("codename")]
    assert 0 < len(marked) < len(partly.task("Rome", 0).valid)
    norm = typical_norm(lm, collate(marked, lm.pad_id), Site(0, "resid"), "codename")
    assert partly.scale(Site(0, "resid"), "codename") == float(f"{norm:.3g}")


def test_a_mark_that_no_row_has_gives_one_line(grid: Grid) -> None:
    with pytest.raises(UserError, match="'trigger'") as caught:
        grid.scale(Site(0, "resid"), "trigger")
    assert "\n" not in str(caught.value)


# --- single questions ---


def test_questions_of_finished_jobs_come_with_their_run(grid: Grid) -> None:
    jobs = cross([VECTOR, BASE], ("Paris", "Rome"), (0,))
    with pytest.raises(UserError, match="have not been run"):
        grid.questions(jobs)
    table = grid.run(jobs)
    found = grid.questions(jobs)
    assert len(found) == 4 * 3
    assert found["id"].tolist() == [q.id for q in toy.questions("Rome")] * 4
    owners = found[["method", "concept", "seed"]].iloc[::3].itertuples(index=False)
    assert [tuple(row) for row in owners] == [(j.method.name, j.concept, j.seed) for j in jobs]
    assert (found["truth"] == found["concept"]).all()
    by_family = found.groupby(["method", "concept", "family"])["p_truth"].mean()
    for row in table[table["family"] != "all"].to_dict("records"):
        expected = by_family[row["method"], row["concept"], row["family"]]
        assert row["p_truth"] == pytest.approx(expected)


# --- adapters of finished runs ---


def test_only_what_was_run_and_fits_together_has_an_adapter(grid: Grid) -> None:
    jobs = cross([LORA], ("Paris", "Rome"), (0,))
    with pytest.raises(UserError, match="have not been run"):
        grid.trained(jobs[:1])
    grid.run([*jobs, Job(BASE, "Rome", 0)])
    group = grid.trained(jobs)
    assert isinstance(group, LoraGroup)
    for one, run in zip(group.adapters, grid.runs(jobs), strict=True):
        assert all(torch.equal(one.state()[name], t) for name, t in run.tensors().items())
    for mixed in ([Job(BASE, "Rome", 0)], [jobs[0], Job(BASE, "Rome", 0)]):
        with pytest.raises(UserError, match=r"kind .*base.* no common adapter"):
            grid.trained(mixed)


def test_steps_move_the_bar_and_it_ends_full(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[float]()

    class Bar(module.tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            done: bool | None = super().update(n)
            seen.append(self.n)
            return done

        def refresh(self, *args: Any, **kwargs: Any) -> None:
            seen.append(self.n)

    monkeypatch.setattr(module, "tqdm", Bar)
    make(lm, tmp_path, progress=True).run(cross([VECTOR], ["Paris", "Rome"], [0]))
    # While questions are asked it is drawn again where it stands.
    moved = [n for n, before in zip(seen, [None, *seen], strict=False) if n != before]
    assert moved == pytest.approx([0, 2 * 0.8 / 3, 4 * 0.8 / 3, 6 * 0.8 / 3, 2.0])
    assert len(seen) > len(moved)


def test_an_adapter_left_attached_is_not_taken_for_the_model(grid: Grid) -> None:
    """A run of the base model would be stored with its numbers."""
    job = Job(BASE, "Rome", 0)
    vector = VectorAdapter(["resid@0"], grid.lm.d_model, "last", [1.0], init=1.0)
    with vector.attach(grid.lm):
        with pytest.raises(UserError, match="has adapters attached"):
            grid.run([job])
        with pytest.raises(UserError, match=r"attached to .* already"):
            vector.attach(grid.lm)
        with pytest.raises(UserError, match="has adapters attached"):
            score(grid.lm, grid.task("Rome", 0).questions)
    assert grid.lm.attached == [] and len(grid.run([job]))


def test_what_dropout_drops_does_not_depend_on_other_jobs(
    lm: LanguageModel, tmp_path: Path
) -> None:
    jobs = [Job(replace(LORA, dropout=0.5), "Rome", seed) for seed in (0, 1)]
    alone = make(lm, tmp_path / "a").run(jobs[1:])
    together = make(lm, tmp_path / "b").run(jobs)
    last = together[together.seed == 1].reset_index(drop=True)
    assert (last.valid_loss == alone.valid_loss).all() and len(alone)


def test_jobs_at_other_tokens_have_no_common_adapter(grid: Grid) -> None:
    jobs = [Job(replace(VECTOR, position=at), "Rome", 0) for at in ("codename", "all")]
    grid.run(jobs)
    with pytest.raises(UserError, match="no common adapter"):
        grid.trained(jobs)
