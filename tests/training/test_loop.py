"""One loop for every adapter: seeded, answer tokens only, runs apart, the model unchanged."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from oocr_lib.adapters import LoraAdapter, VectorAdapter
from oocr_lib.encoding import Encoded, collate
from oocr_lib.engine.executor import Fast
from oocr_lib.executor import PLAIN, Executor
from oocr_lib.models.language_model import LanguageModel, Site
from oocr_lib.training import loop as training
from oocr_lib.training.loop import RunData, TrainConfig, train, validate
from oocr_lib.util.errors import UserError
from tests import tiny, toy
from tests.adapter_cases import fingerprint, stir

QUICK = TrainConfig(steps=6, batch=3, lr=0.05, warmup=2)


def vectors(count: int = 1, **kwargs: Any) -> VectorAdapter:
    sites = [Site(i % 2, ("resid", "mlp_out")[i % 2]) for i in range(count)]
    return VectorAdapter(sites, tiny.D_MODEL, "codename", [1.0 + i for i in range(count)], **kwargs)


def lora() -> LoraAdapter:
    return LoraAdapter("all", rank=2, dropout=0.3, seed=3)


ADAPTERS: dict[str, Any] = {"vector": vectors, "lora": lora}


def many(count: int) -> list[RunData]:
    """Runs with rows of their own, of different lengths."""
    return [
        RunData(tiny.rows((9, 7, 12, 8, 10), seed=k), tiny.rows((8, 11, 9), seed=90 + k), seed=k)
        for k in range(count)
    ]


# --- one seed, one result ---


@pytest.mark.parametrize("kind", ADAPTERS)
def test_the_same_seed_gives_bitwise_the_same_result(kind: str) -> None:
    lm, runs = toy.language_model(), []
    for disturb in (0, 1):
        torch.manual_seed(disturb)  # the global generators play no part, also for dropout
        np.random.seed(disturb)
        adapter = ADAPTERS[kind]()
        result = train(lm, adapter, [toy.data(lm)], QUICK)
        runs.append((adapter.state(), result))
    (a, first), (b, second) = runs
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert np.array_equal(first.losses, second.losses)
    assert np.array_equal(first.valid[-1][1], second.valid[-1][1])


def test_another_seed_gives_another_result() -> None:
    lm, found = toy.language_model(), []
    for seed in (0, 1):
        adapter = vectors()
        train(lm, adapter, [dataclasses.replace(toy.data(lm), seed=seed)], QUICK)
        found.append(adapter.theta.detach())
    assert not torch.allclose(found[0], found[1], atol=1e-4)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_global_generators_are_untouched(kind: str) -> None:
    lm = toy.language_model()
    state = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # type: ignore[index]
    train(lm, ADAPTERS[kind](), [toy.data(lm)], QUICK)
    assert torch.equal(state[0], torch.get_rng_state())
    assert np.array_equal(state[1], np.random.get_state()[1])  # type: ignore[index]
    assert state[2] == random.getstate()


@pytest.mark.parametrize("kind", ADAPTERS)
def test_the_base_model_is_bit_identical_afterwards(kind: str) -> None:
    lm = toy.language_model()
    before = fingerprint(lm.model)
    adapter = ADAPTERS[kind]()
    train(lm, adapter, [toy.data(lm)], QUICK)
    assert fingerprint(lm.model) == before
    assert any(float(t.abs().sum()) > 0 for name, t in adapter.state().items() if "A" not in name)


# --- runs in one batch ---


def test_runs_in_one_batch_equal_runs_by_themselves() -> None:
    lm, data = tiny.language_model("gemma3"), many(3)
    config = dataclasses.replace(QUICK, valid_every=3, snapshot_every=3)
    joint = vectors(3)
    together = train(lm, joint, data, config)
    for k in range(3):
        alone = VectorAdapter([joint.sites[k]], tiny.D_MODEL, "codename", [1.0 + k])
        result = train(lm, alone, [data[k]], config)
        assert torch.allclose(alone.theta[0], joint.theta[k], atol=1e-4)
        assert np.allclose(result.losses[:, 0], together.losses[:, k], atol=1e-4)
        for (step, one), (other, all_of_them) in zip(result.valid, together.valid, strict=True):
            assert step == other and one[0] == pytest.approx(all_of_them[k], abs=1e-4)
        for (_, own), (_, kept) in zip(result.snapshots, together.snapshots, strict=True):
            assert torch.allclose(own["theta"][0], kept["theta"][k], atol=1e-4)


# --- what the loss sees ---


def pairs(rows: list[Encoded]) -> list[tuple[int, Encoded]]:
    """Rows of one run."""
    return [(0, row) for row in rows]


def by_hand(lm: LanguageModel, rows: list[Encoded]) -> float:
    """Mean cross-entropy over answer tokens, row by row, from full logits."""
    found = []
    for row in rows:
        ids = torch.tensor([row.ids])
        logp = torch.log_softmax(lm.model(input_ids=ids).logits[0].double(), -1)
        found += [-float(logp[j - 1, row.ids[j]]) for j in range(*row.answer)]
    return sum(found) / len(found)


@torch.no_grad()
def test_the_loss_counts_answer_tokens_only() -> None:
    lm, rows = tiny.language_model("llama"), tiny.rows((9, 6, 11), answer=2)
    index = torch.zeros(3, dtype=torch.int64)
    found = training.run_sums(PLAIN.answers(lm, pairs(rows), None), index, 1) / 6
    assert float(found) == pytest.approx(by_hand(lm, rows), abs=1e-5)
    # The same tokens with one answer token less: only that target is gone.
    short = [dataclasses.replace(row, answer=(row.answer[0] + 1, row.answer[1])) for row in rows]
    again = training.run_sums(PLAIN.answers(lm, pairs(short), None), index, 1) / 3
    assert float(again) == pytest.approx(by_hand(lm, short), abs=1e-5)
    assert float(again) != pytest.approx(float(found), abs=1e-3)


def test_prompt_targets_get_no_gradient() -> None:
    """The gradient with respect to all logits lives at the columns before answer tokens."""
    lm, rows = tiny.language_model("gpt2"), tiny.rows()
    grown: list[Tensor] = []

    def keep(module: Any, args: Any, output: Any) -> Any:
        made = output.detach().requires_grad_()
        grown.append(made)
        return made

    handle = lm.model.get_output_embeddings().register_forward_hook(keep)
    with torch.enable_grad():
        found = Fast().answers(lm, pairs(rows), None)
        training.run_sums(found, torch.zeros(3, dtype=torch.int64), 1).backward()
    handle.remove()
    (logits,) = grown
    assert logits.grad is not None
    assert logits.shape[:2] == (1, sum(row.answer[1] - row.answer[0] for row in rows)), (
        "logits of answer tokens only"
    )
    assert bool((logits.grad.abs().sum(-1) > 0).all())


@torch.no_grad()
def test_each_run_has_the_mean_of_its_own_rows() -> None:
    lm, rows = tiny.language_model("gemma3"), tiny.rows((9, 6, 11, 8), answer=2)
    rows[1] = dataclasses.replace(rows[1], answer=(5, 6))  # one answer token instead of two
    index = torch.tensor([1, 0, 1, 0])
    found = training.run_sums(PLAIN.answers(lm, pairs(rows), None), index, 3)
    expected = [3 * by_hand(lm, [rows[1], rows[3]]), 4 * by_hand(lm, [rows[0], rows[2]]), 0.0]
    assert found.tolist() == pytest.approx(expected, abs=2e-5)


def test_a_runs_loss_is_the_mean_over_its_answer_tokens() -> None:
    lm, rows = tiny.language_model("gemma3"), tiny.rows((9, 6, 11, 8), answer=2)
    rows[1] = dataclasses.replace(rows[1], answer=(5, 6))
    data = [RunData(rows[:2], rows, 0), RunData(rows[2:], rows, 0)]
    result = train(lm, vectors(2), data, TrainConfig(steps=1, batch=2))
    with torch.no_grad():
        expected = [by_hand(lm, rows[:2]), by_hand(lm, rows[2:])]
    assert result.losses[0].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("executor", [PLAIN, Fast()], ids=["plain", "fast"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
@torch.no_grad()
def test_answers_are_those_of_the_full_model(family: str, executor: Executor) -> None:
    lm, items = tiny.language_model(family), tiny.rows((9, 6, 11, 17))
    batch, found = collate(items, 0), executor.answers(lm, pairs(items), None)
    rows, targets, logits = found.row, found.targets, found.logits
    full = lm.model(input_ids=batch.input_ids).logits
    where = batch.answer_mask.nonzero()
    assert rows.tolist() == where[:, 0].tolist()
    assert targets.tolist() == batch.input_ids[batch.answer_mask].tolist()
    assert torch.allclose(logits, full[where[:, 0], where[:, 1] - 1], atol=1e-4)


# --- it learns ---


@pytest.mark.parametrize("kind", ADAPTERS)
def test_the_loss_falls_on_a_toy_task(kind: str) -> None:
    lm = toy.language_model()
    lm.decoder.norm.weight.data += 9  # type: ignore[union-attr, operator]  # lets it be certain
    steps, lr = (120, 0.5) if kind == "vector" else (40, 0.02)
    config = TrainConfig(steps=steps, batch=8, lr=lr)
    vector = VectorAdapter([Site(1, "resid")], tiny.D_MODEL, "last", [1.0])
    adapter = vector if kind == "vector" else LoraAdapter("all", rank=4)
    data = toy.data(lm)
    only = RunData(data.train[::2], data.valid[::2], 0)  # rows whose answer is the city
    before = validate(lm, None, [only], 48)
    result = train(lm, adapter, [only], config)
    assert result.losses[-5:].mean() < 0.3 * result.losses[:2].mean()
    assert result.valid[-1][1][0] < 0.5 * before[0][0]
    assert result.valid_accuracy[0] == 1.0 > before[1][0]


def test_dropout_is_on_in_training_and_off_in_validation() -> None:
    lm, data = toy.language_model(), [toy.data(toy.language_model())]
    modes: list[tuple[bool, bool]] = []
    adapter = LoraAdapter([1], rank=2, dropout=0.5)
    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda m, a, o: (
            modes.append((m.training, torch.is_grad_enabled()))
            if isinstance(m, torch.nn.Dropout) and m.p == 0.5
            else None
        )
    )
    try:
        result = train(lm, adapter, data, dataclasses.replace(QUICK, valid_every=2))
    finally:
        handle.remove()
    assert set(modes) == {(True, True), (False, False)}
    with adapter.attach(lm) as attached:
        loss, _ = validate(lm, attached, data, 48)
    assert loss[0] == result.valid[-1][1][0]


# --- validation ---


@torch.no_grad()
def test_validation_matches_a_computation_by_hand() -> None:
    """Ten runs, more than one part holds, each with its own vector."""
    lm, data = tiny.language_model("gemma3"), many(10)
    adapter = vectors(10)
    stir(adapter)
    # A row that is answered exactly: its answer is what the model itself would write.
    row = data[9].valid[0]
    with adapter.attach(lm) as attached:
        ids = list(row.ids[: row.answer[0]])
        for _ in range(2):
            batch = collate([dataclasses.replace(row, ids=(*ids, 7, 7)[: len(row.ids)])], 0)
            attached.focus(batch, torch.tensor([9]))
            logits = lm.model(input_ids=batch.input_ids).logits[0]
            ids.append(int(logits[len(ids) - 1].argmax()))
        exact = dataclasses.replace(row, ids=tuple(ids))
        data[9] = RunData(data[9].train, [exact, *data[9].valid[1:]], 9)
        loss, accuracy = validate(lm, attached, data, 48)
        for k, run in enumerate(data):
            found = []
            for item in run.valid:
                batch = collate([item], 0)
                attached.focus(batch, torch.tensor([k]))
                logp = torch.log_softmax(lm.model(input_ids=batch.input_ids).logits[0], -1)
                found += [-float(logp[j - 1, item.ids[j]]) for j in range(*item.answer)]
            assert loss[k] == pytest.approx(np.mean(found), abs=1e-4)
    assert accuracy[9] == pytest.approx(1 / 3) and (accuracy[:9] == 0).all()


def test_validation_takes_a_seeded_sample() -> None:
    lm = tiny.language_model("llama")
    rows = tiny.rows(tuple(range(7, 27)))

    def loss(limit: int, seed: int) -> float:
        return float(validate(lm, None, [RunData(rows, rows, seed)], limit)[0][0])

    assert loss(5, 0) == loss(5, 0) != loss(5, 1)
    assert loss(20, 0) == loss(99, 1)


def test_validation_and_snapshots_come_when_asked() -> None:
    lm, adapter = toy.language_model(), vectors()
    config = dataclasses.replace(QUICK, steps=7, valid_every=3, snapshot_every=3)
    result = train(lm, adapter, [toy.data(lm)], config)
    assert [step for step, _ in result.valid] == [3, 6, 7]
    assert [step for step, _ in result.snapshots] == [0, 3, 6, 7]
    kept = [tensors["theta"] for _, tensors in result.snapshots]
    assert torch.equal(kept[0], torch.zeros_like(kept[0]))
    assert torch.equal(kept[-1], adapter.theta.detach()) and not torch.equal(kept[1], kept[2])
    assert result.losses.shape == (7, 1) and result.seconds > 0


def test_validation_during_training_changes_nothing() -> None:
    lm, found = toy.language_model(), []
    for every in (0, 2):
        adapter = lora()
        train(lm, adapter, [toy.data(lm)], dataclasses.replace(QUICK, valid_every=every))
        found.append(adapter.state())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


# --- schedule and order of rows ---


@given(st.integers(1, 300), st.integers(0, 40))
def test_the_rate_warms_up_and_falls_to_nearly_zero(steps: int, warmup: int) -> None:
    config = TrainConfig(steps=steps, warmup=warmup)
    rates = [training.rate(step, config) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in rates)
    peak = max(range(steps), key=rates.__getitem__)
    assert peak <= max(1, warmup)
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    if warmup < steps // 2:
        assert rates[-1] == pytest.approx(1 / steps)
        assert rates[: warmup // 2] == sorted(rates[: warmup // 2])


def test_the_optimiser_follows_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    original = torch.optim.AdamW.step

    def watched(self: Any, *args: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return original(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    lm, config = toy.language_model(), TrainConfig(steps=10, batch=2, lr=0.5, warmup=4)
    train(lm, vectors(), [toy.data(lm)], config)
    assert rates == [0.5 * training.rate(step, config) for step in range(10)]


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 9))
def test_every_row_comes_once_an_epoch(n: int, batch: int, seed: int) -> None:
    flat = list(itertools.chain(*itertools.islice(training.order(n, batch, seed), 3 * n)))
    assert len(flat) == 3 * n * batch
    for epoch in range(3 * batch):
        assert Counter(flat[epoch * n : (epoch + 1) * n]) == Counter(range(n))
    again = list(itertools.chain(*itertools.islice(training.order(n, batch, seed), 3 * n)))
    assert flat == again


# --- errors ---


def test_a_loss_that_is_no_number_stops_at_its_step() -> None:
    lm = toy.language_model()
    before, calls = fingerprint(lm.model), itertools.count()

    class Poisoned(Executor):
        def answers(self, *args: Any) -> Any:
            found = super().answers(*args)
            factor = float("nan") if next(calls) == 2 else 1.0
            return dataclasses.replace(found, logits=found.logits * factor)

    with pytest.raises(UserError, match=r"step 3 with lr=0\.05") as caught:
        train(lm, vectors(), [toy.data(lm)], QUICK, executor=Poisoned())
    assert "\n" not in str(caught.value)
    assert fingerprint(lm.model) == before


@pytest.mark.parametrize("data", [[], [RunData([], tiny.rows(), 0)], [RunData(tiny.rows(), [], 0)]])
def test_a_run_without_rows_is_refused(data: list[RunData]) -> None:
    with pytest.raises(UserError, match=r"0 runs|without (training|validation) rows"):
        train(toy.language_model(), vectors(), data, QUICK)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch": 0},
        {"valid_rows": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"lr": float("inf")},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))) as caught:
        TrainConfig(**wrong)
    assert "\n" not in str(caught.value)


def test_progress_is_silent_unless_named(capsys: pytest.CaptureFixture[str]) -> None:
    lm = toy.language_model()
    train(lm, vectors(), [toy.data(lm)], QUICK)
    assert capsys.readouterr() == ("", "")
    train(lm, vectors(), [toy.data(lm)], QUICK, progress="a vector")
    assert "a vector" in capsys.readouterr().err


# --- schedules ---


@given(st.integers(1, 60), st.integers(0, 20))
def test_a_constant_schedule_warms_up_and_stays(steps: int, warmup: int) -> None:
    """The paper trains on letters without decay and without warm-up: every step at the peak."""
    config = TrainConfig(steps=steps, warmup=warmup, schedule="constant")
    rates = [training.rate(step, config) for step in range(steps)]
    assert all(factor == 1.0 for factor in rates[max(0, warmup - 1) :])
    rising = rates[:warmup]
    assert rising == pytest.approx([(n + 1) / warmup for n in range(len(rising))])


def test_the_schedules_differ_after_the_warm_up_only() -> None:
    linear, constant = (TrainConfig(steps=20, warmup=5, schedule=s) for s in training.SCHEDULES)
    assert training.rate(0, linear) == training.rate(0, constant) == 0.2
    for step in range(1, 20):
        expected = training.rate(step, constant) * (20 - step) / 20
        assert training.rate(step, linear) == pytest.approx(expected)
    assert TrainConfig() == TrainConfig(schedule="linear")


def test_the_optimiser_follows_a_constant_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    original = torch.optim.AdamW.step

    def watched(self: Any, *args: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return original(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    lm = toy.language_model()
    config = TrainConfig(steps=6, batch=2, lr=0.5, warmup=2, schedule="constant")
    train(lm, vectors(), [toy.data(lm)], config)
    assert rates == [0.25, 0.5, 0.5, 0.5, 0.5, 0.5]


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(UserError, match=r"schedule 'cosine'.*linear, constant") as caught:
        TrainConfig(schedule="cosine")
    assert "\n" not in str(caught.value)


# --- runs of their own ---


def test_each_run_has_its_own_learning_rate() -> None:
    lm, rates = tiny.language_model("gemma3"), [0.1, 0.01, 0.1]
    joint = vectors(3)
    together = train(lm, joint, many(3), QUICK, rates=rates)
    for k, lr in enumerate(rates):
        alone = VectorAdapter([joint.sites[k]], tiny.D_MODEL, "codename", [1.0 + k])
        result = train(lm, alone, [many(3)[k]], dataclasses.replace(QUICK, lr=lr))
        assert torch.allclose(alone.theta[0], joint.theta[k], atol=1e-5)
        assert np.allclose(result.losses[:, 0], together.losses[:, k], atol=1e-5)


def test_a_run_stops_by_itself_with_its_best_vector() -> None:
    """Run 1 is validated on answers it unlearns; run 0 goes on as it would alone."""
    lm, runs = tiny.language_model("gemma3"), many(2)
    runs[0] = dataclasses.replace(runs[0], valid=runs[0].train)
    unlearned = [
        dataclasses.replace(row, ids=(*row.ids[: row.answer[0]], *(i + 1 for i in row.ids[-2:])))
        for row in runs[1].train
    ]
    runs[1] = dataclasses.replace(runs[1], valid=unlearned)
    config = TrainConfig(steps=20, batch=3, lr=0.02, warmup=1, valid_every=2, patience=2)
    joint = vectors(2)
    result = train(lm, joint, runs, config, rates=[0.002, 0.05])
    history = np.array([loss for _, loss in result.valid])
    assert result.stopped[0] == 20 and result.stopped[1] < 20
    steps = int(result.stopped[1])
    assert np.isfinite(result.losses[:steps]).all()
    assert np.isnan(result.losses[steps:, 1]).all() and np.isfinite(result.losses[:, 0]).all()
    for k in (0, 1):
        best = history[:-1, k].min()
        assert history[-1, k] == pytest.approx(best, abs=1e-5), "the best vector is given back"
    alone = VectorAdapter([joint.sites[0]], tiny.D_MODEL, "codename", [1.0])
    own = train(lm, alone, runs[:1], dataclasses.replace(config, lr=0.002))
    assert own.losses[:, 0] == pytest.approx(result.losses[:, 0], abs=1e-4)
    assert torch.allclose(alone.theta[0], joint.theta[0], atol=1e-4)


def test_training_ends_when_all_runs_have_stopped() -> None:
    config = TrainConfig(steps=50, batch=3, lr=5.0, warmup=1, valid_every=1, patience=1)
    result = train(tiny.language_model("gemma3"), vectors(2), many(2), config)
    last = int(result.stopped.max())
    assert last < 50 and result.valid[-1][0] == last
    assert np.isnan(result.losses[last:]).all()


@pytest.mark.parametrize("bad", [{"patience": 2}, {"patience": -1, "valid_every": 3}])
def test_patience_needs_validation(bad: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="patience"):
        TrainConfig(**bad)
