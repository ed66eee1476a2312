"""Pretraining: batches, optimisers, schedule, and a resume that leaves no trace."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from oocr_lib.testbed import card, knowledge, pretrain, stream, tokenizer
from oocr_lib.testbed.mixes import FIRST, LAST, LATER, UNITE
from oocr_lib.testbed.muon import Muon, orthogonalise
from oocr_lib.testbed.recipe import RESTART_TOKENS, Cycle, Recipe, schedule
from oocr_lib.util.errors import UserError
from tests.testbed_cases import built, of_kind, sample, squeezed

TINY = Recipe(
    tokens=4000,
    phases=((0, FIRST), (1, LATER), (3, LAST)),
    again=(Cycle(3, 4200, 2300, 0.5),),
    batch_tokens=512,
    width=32,
    blocks=2,
    heads=2,
    key_value_heads=1,
    mlp=48,
    threads=1,
)


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Small chunks, one tokenizer for all, and no time spent on questions."""
    table = pd.DataFrame({"family": ["a", "b"], "n": 1, "accuracy": [0.5, 1.0], "exact": 0.5})
    threads, _ = torch.get_num_threads(), built()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "CHUNK_DOCUMENTS", 24)
        patch.setattr(tokenizer, "build", built)
        patch.setattr(knowledge, "measure", lambda *args, **kwargs: table)
        yield
    torch.set_num_threads(threads)


# --- batches ---


@pytest.mark.parametrize("kind", ["code_facts", "city_statements", "copies", "dialogues"])
def test_answers_weigh_one_and_the_rest_a_tenth(kind: str) -> None:
    documents = of_kind(kind, 60)
    for document, (ids, weights) in zip(
        documents, stream.tokenise(built(), documents), strict=True
    ):
        assert set(weights) == {1.0, 0.1} and len(weights) == len(ids)
        heavy = built().decode([i for i, w in zip(ids, weights, strict=True) if w == 1.0])
        held = "".join(document.text[start:end] for start, end in document.answers)
        assert squeezed(heavy) == squeezed(held)


def test_text_without_answers_weighs_a_tenth_throughout() -> None:
    for _, weights in stream.tokenise(built(), of_kind("plain", 20)):
        assert set(weights) == {0.1}


def test_padding_stands_right_and_weighs_nothing() -> None:
    batch = stream.pad([([5, 6, 7], [0.1, 1.0, 1.0]), ([8], [0.1])], pad_id=0)
    assert batch.ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert torch.equal(batch.weights, torch.tensor([[0.1, 1.0, 1.0], [0.1, 0.0, 0.0]]))
    assert batch.tokens == 4


def test_a_chunk_holds_every_document_once_in_batches_of_bounded_size() -> None:
    batches = stream.chunk(built(), 3, 2, FIRST, 512)
    rows = Counter(
        tuple(ids[weights > 0].tolist())
        for batch in batches
        for ids, weights in zip(batch.ids, batch.weights, strict=True)
    )
    documents = sample(24, 3 * 1_000_003 + 2, FIRST)
    assert rows == Counter(tuple(ids) for ids, _ in stream.tokenise(built(), documents))
    assert all(batch.ids.numel() <= 512 for batch in batches)
    assert len(batches) > 2


def test_chunks_are_seeded_by_their_number() -> None:
    def content(first: int, number: int, seed: int = 3) -> list[list[list[int]]]:
        chunks = stream.batches(built(), seed, first, lambda chunk: FIRST, 512)
        found = dict(itertools.islice(chunks, number - first + 1))
        return [batch.ids.tolist() for batch in found[number]]

    assert content(0, 2) == content(2, 2)
    assert content(2, 2) != content(1, 1)
    assert content(2, 2) != content(2, 2, seed=4)


# --- optimisers, schedule, loss ---


@pytest.mark.parametrize("shape", [(24, 24), (48, 16), (16, 48)])
def test_muon_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(3, shape[0], min(shape), generator=generator))
    right, _ = torch.linalg.qr(torch.randn(3, shape[1], min(shape), generator=generator))
    values = torch.logspace(0, -1, min(shape)) * torch.tensor([1e-4, 1.0, 1e3])[:, None, None]
    found = orthogonalise((left * values) @ right.mT)
    assert found.shape == (3, *shape)
    size = torch.linalg.svdvals(found)
    assert float(size.min()) > 0.6 and float(size.max()) < 1.3
    # The directions stay: in the basis of the input, the result is diagonal.
    core = left.mT @ found @ right
    assert float((core - torch.diag_embed(core.diagonal(dim1=1, dim2=2))).abs().max()) < 1e-3


def test_muon_follows_its_formula_for_each_matrix_by_itself() -> None:
    generator = torch.Generator().manual_seed(1)
    shapes = [(8, 8), (16, 8), (8, 8), (8, 16)]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    params = [torch.nn.Parameter(w.clone()) for w in start]
    untouched = torch.nn.Parameter(torch.ones(8, 8))
    optimiser = Muon([*params, untouched], lr=0.1, momentum=0.9)
    momentum = [torch.zeros(shape) for shape in shapes]
    for _ in range(3):
        for i, p in enumerate(params):
            p.grad = torch.randn(p.shape, generator=generator)
            momentum[i] = 0.9 * momentum[i] + p.grad
            update = orthogonalise((p.grad + 0.9 * momentum[i])[None])[0]
            start[i] -= 0.1 * max(1.0, p.shape[0] / p.shape[1]) ** 0.5 * update
        optimiser.step()
    for p, expected in zip(params, start, strict=True):
        assert torch.allclose(p.detach(), expected, atol=1e-5)
    assert torch.equal(untouched.detach(), torch.ones(8, 8))


def test_every_weight_has_one_optimiser() -> None:
    model = pretrain.build_model(TINY, len(built()), 0)
    muon, adam = pretrain.optimisers(model, TINY)
    groups = {
        name: {id(p) for group in optimiser.param_groups for p in group["params"]}
        for name, optimiser in (("muon", muon), ("adam", adam))
    }
    for name, p in model.named_parameters():
        hidden = p.ndim == 2 and "embed" not in name
        assert id(p) in groups["muon" if hidden else "adam"], name
    assert not groups["muon"] & groups["adam"]
    assert len(groups["muon"]) == 7 * TINY.blocks  # four of attention, three of the MLP


def test_the_model_is_gemma_3_with_full_attention_and_tied_embeddings() -> None:
    model = pretrain.build_model(TINY, 100, 0)
    assert model.config.model_type == "gemma3_text"
    assert set(model.config.layer_types) == {"full_attention"}
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    again = pretrain.build_model(TINY, 100, 0).state_dict()
    assert all(torch.equal(again[key], value) for key, value in model.state_dict().items())


def test_the_learning_rate_warms_up_stays_falls_and_comes_back_lower() -> None:
    cycles = (Cycle(7, 105_000, 40_000, 0.6), Cycle(12, 150_000, 20_000, 0.3))
    recipe = Recipe(tokens=100_000, again=cycles)
    assert (recipe.warmup_share, recipe.decay_share) == (0.01, 0.6)
    factors = [schedule(recipe, seen, 0) for seen in range(0, 100_001, 100)]
    assert 0 < factors[0] < 0.2
    assert factors[:10] == sorted(factors[:10])
    assert all(factor == 1.0 for factor in factors[10:400])
    falling = factors[401:]
    assert falling == sorted(falling, reverse=True) and falling[-1] == 0.0
    assert schedule(recipe, 70_000, 6) == pytest.approx(0.5)
    assert schedule(recipe, 105_000, 6) == 0.0, "the last chunk may run over"
    assert schedule(recipe, 105_000, 7) == pytest.approx(0.6)
    assert schedule(recipe, 125_000, 8) == pytest.approx(0.3)
    assert schedule(recipe, 145_000, 9) == schedule(recipe, 149_000, 11) == 0.0
    assert schedule(recipe, 160_000, 13) == pytest.approx(0.15)
    assert recipe.total == 170_000 and Recipe(tokens=100_000, again=()).total == 100_000


def test_the_loss_is_the_weighted_mean_over_next_tokens() -> None:
    model = pretrain.build_model(TINY, len(built()), 0).eval()
    batch = stream.chunk(built(), 0, 0, FIRST, 512)[0]
    with torch.no_grad():
        found = float(pretrain.loss_of(model, batch))
        total = weight = 0.0
        for ids, weights in zip(batch.ids, batch.weights, strict=True):
            real = int((weights > 0).sum())
            logp = torch.log_softmax(model(input_ids=ids[None, :real]).logits[0], -1)
            for t in range(1, real):
                total -= float(weights[t] * logp[t - 1, ids[t]])
                weight += float(weights[t])
    assert found == pytest.approx(total / weight, rel=1e-4)


def test_a_phase_begins_at_its_chunk() -> None:
    assert [TINY.mix_of(n) for n in range(5)] == [FIRST, LATER, LATER, LAST, LAST]
    assert Recipe().mix_of(0) == FIRST


# --- resume ---


def weights(model: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return resumed(tmp_path_factory.mktemp("whole"))


def resumed(work: Path) -> dict[str, Any]:
    model, _, progress = pretrain.pretrain(TINY, work, measure_every=10**6)
    return {"weights": weights(model), "progress": progress}


def assert_same_run(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert same(found["weights"], expected["weights"])
    for key in ("chunk", "tokens", "curve"):
        assert found["progress"][key] == expected["progress"][key], key


class Killed(BaseException):
    """Stands for a kill: nothing in the library may catch it."""


def test_training_learns_and_records_its_curve(uninterrupted: dict[str, Any]) -> None:
    progress = uninterrupted["progress"]
    assert progress["tokens"] >= TINY.total == 6500
    assert progress["chunk"] == len(progress["curve"]) > TINY.again[0].first_chunk, (
        "both cycles have run"
    )
    losses = [point["loss"] for point in progress["curve"]]
    assert losses[-1] < losses[0] - 0.3
    assert progress["curve"][-1]["accuracy"] == {"a": 0.5, "b": 1.0}
    assert progress["recipe"]["width"] == 32 and progress["seconds"] > 0


def test_another_seed_gives_another_model(uninterrupted: dict[str, Any], tmp_path: Path) -> None:
    recipe = Recipe(**{**vars(TINY), "seed": 1})
    model, _, _ = pretrain.pretrain(recipe, tmp_path, max_chunks=1)
    assert not same(weights(model), uninterrupted["weights"])


def test_a_stop_between_chunks_leaves_no_trace(
    uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    pretrain.pretrain(TINY, tmp_path, max_chunks=1)
    pretrain.pretrain(TINY, tmp_path, max_chunks=2)
    assert_same_run(resumed(tmp_path), uninterrupted)


def test_a_kill_inside_a_chunk_leaves_no_trace(
    uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    calls, original = itertools.count(), pretrain.loss_of

    def dies(model: Any, batch: stream.PretrainBatch) -> Tensor:
        if next(calls) == 9:
            raise Killed
        return original(model, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "loss_of", dies)
        with pytest.raises(Killed):
            pretrain.pretrain(TINY, tmp_path)
    assert 0 < json.loads((tmp_path / "progress.json").read_text())["chunk"] < 3
    assert_same_run(resumed(tmp_path), uninterrupted)


@pytest.mark.parametrize("moment", ["state-2.safetensors", "progress.json"])
def test_a_kill_while_saving_leaves_no_trace(
    uninterrupted: dict[str, Any], tmp_path: Path, moment: str
) -> None:
    pretrain.pretrain(TINY, tmp_path, max_chunks=1)
    original = os.replace

    def dies(source: Any, target: Any) -> None:
        if Path(target).name == moment:
            raise Killed
        original(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain.os, "replace", dies)
        with pytest.raises(Killed):
            pretrain.pretrain(TINY, tmp_path)
    assert json.loads((tmp_path / "progress.json").read_text())["chunk"] == 1
    assert_same_run(resumed(tmp_path), uninterrupted)
    assert len(list(tmp_path.glob("state-*.safetensors"))) == 1


def test_a_finished_pretraining_is_not_trained_further(tmp_path: Path) -> None:
    done = resumed(tmp_path)
    assert_same_run(resumed(tmp_path), done)


@pytest.mark.parametrize("change", [{"seed": 1}, {"tokens": 9000}, {"width": 16}, {"blocks": 3}])
def test_another_recipe_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    pretrain.pretrain(TINY, tmp_path, max_chunks=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="another recipe") as caught:
        pretrain.pretrain(Recipe(**{**vars(TINY), **change}), tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_loss_that_is_no_number_stops_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = pretrain.loss_of
    monkeypatch.setattr(pretrain, "loss_of", lambda *args: original(*args) * float("nan"))
    with pytest.raises(UserError, match=r"NaN.*muon_lr"):
        pretrain.pretrain(TINY, tmp_path)
    assert not (tmp_path / "progress.json").exists()


def test_every_measured_chunk_is_reported(tmp_path: Path) -> None:
    points: list[dict[str, Any]] = []
    pretrain.pretrain(TINY, tmp_path, max_chunks=2, report=points.append, measure_every=1)
    assert [set(point) for point in points] == [{"tokens", "loss", "accuracy"}] * 2


# --- cycles that start again ---

#: The last cycle begins anew at chunk 3, from the mean of the ends before chunks 2 and 3.
ANEW = replace(
    TINY,
    phases=((0, FIRST), (3, UNITE)),
    again=(
        Cycle(2, 3800, 1700, 0.5),
        Cycle(3, 5500, 3500, 0.4, restart=True, from_mean=True),
    ),
)


@pytest.fixture(scope="module")
def anew(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An uninterrupted run of ``ANEW`` with its folder and the state before every chunk."""
    work = tmp_path_factory.mktemp("anew")
    states = list[dict[str, Any]]()
    original = pretrain._train_chunk

    def watched(model: Any, opts: Any, *args: Any) -> list[float]:
        kept = [len(opt.state) for opt in opts]
        states.append({"weights": weights(model), "kept": kept, "opts": opts})
        return original(model, opts, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "_train_chunk", watched)
        model, _, progress = pretrain.pretrain(ANEW, work, measure_every=10**6)
    return {"weights": weights(model), "progress": progress, "work": work, "states": states}


def test_a_cycle_from_the_mean_begins_with_the_mean_of_the_last_ends(anew: dict[str, Any]) -> None:
    first, second = (load_file(anew["work"] / f"end-{chunk}.safetensors") for chunk in (2, 3))
    assert same(anew["states"][2]["weights"], first), "an ordinary cycle goes on where it is"
    begun = anew["states"][3]["weights"]
    assert begun.keys() == first.keys()
    for name, tensor in begun.items():
        assert torch.allclose(tensor, (first[name] + second[name]) / 2, atol=1e-7), name
    assert not same(begun, second) and not same(first, second)


def test_a_restart_has_fresh_optimisers_and_other_cycles_keep_theirs(anew: dict[str, Any]) -> None:
    kept = [state["kept"] for state in anew["states"]]
    assert kept[0] == kept[3] == [0, 0], "nothing remembered"
    assert all(min(counts) > 0 for counts in (kept[1], kept[2], kept[4]))
    opts = [state["opts"] for state in anew["states"]]
    assert opts[1] is opts[2] is not opts[3] is opts[4]
    muon, adam = opts[3]
    assert (muon.param_groups[0]["peak"], adam.param_groups[0]["peak"]) == (
        ANEW.muon_lr,
        ANEW.adam_lr,
    )


def test_the_finished_weights_are_the_mean_of_the_last_ends(anew: dict[str, Any]) -> None:
    """What is saved for a resume stays as it was trained, so that the mean is taken only once."""
    note = json.loads((anew["work"] / "progress.json").read_text())
    assert note["chunk"] == anew["progress"]["chunk"] == len(anew["states"]) >= 5
    assert note["tokens"] == anew["progress"]["tokens"] >= ANEW.total and ANEW.finish == 3
    stored = load_file(anew["work"] / note["state"])
    trained = {k[6:]: v for k, v in stored.items() if k.startswith("model.")}
    ends = [load_file(anew["work"] / f"end-{chunk}.safetensors") for chunk in (2, 3)]
    assert trained.keys() == anew["weights"].keys() and not same(trained, anew["weights"])
    for name, tensor in anew["weights"].items():
        mean = (trained[name] + ends[0][name] + ends[1][name]) / 3
        assert torch.allclose(tensor, mean, atol=1e-6), name


@pytest.mark.parametrize(("finish", "others"), [(1, ()), (2, (3,)), (9, (2, 3))])
def test_the_recipe_says_over_how_many_ends(
    anew: dict[str, Any], tmp_path: Path, finish: int, others: tuple[int, ...]
) -> None:
    """A finished folder of the same recipe but for the last mean, opened again."""
    work = tmp_path / "work"
    shutil.copytree(anew["work"], work)
    recipe = replace(ANEW, finish=finish)
    note = json.loads((work / "progress.json").read_text())
    note["recipe"]["finish"] = finish
    (work / "progress.json").write_text(json.dumps(note))
    model, _, _ = pretrain.pretrain(recipe, work)
    stored = load_file(work / note["state"])
    parts = [{k[6:]: v for k, v in stored.items() if k.startswith("model.")}]
    parts += [load_file(work / f"end-{chunk}.safetensors") for chunk in others]
    for name, tensor in weights(model).items():
        expected = torch.stack([part[name] for part in parts]).mean(0)
        assert torch.allclose(tensor, expected, atol=1e-6), name


def test_an_unfinished_run_is_not_averaged(anew: dict[str, Any], tmp_path: Path) -> None:
    model, _, _ = pretrain.pretrain(ANEW, tmp_path, max_chunks=3, measure_every=10**6)
    assert same(weights(model), load_file(anew["work"] / "end-3.safetensors"))


@pytest.mark.parametrize("stops", [[3], [4], [1, 2, 3, 4]])
def test_a_stop_before_or_inside_a_restarted_cycle_leaves_no_trace(
    anew: dict[str, Any], tmp_path: Path, stops: list[int]
) -> None:
    for stop in stops:
        pretrain.pretrain(ANEW, tmp_path, max_chunks=stop, measure_every=10**6)
    model, _, progress = pretrain.pretrain(ANEW, tmp_path, measure_every=10**6)
    assert_same_run({"weights": weights(model), "progress": progress}, anew)


@pytest.mark.parametrize("kills", [["begin"], ["first batch"], ["begin", "first batch"]])
def test_a_kill_at_the_restart_leaves_no_trace(
    anew: dict[str, Any], tmp_path: Path, kills: list[str]
) -> None:
    """The mean is taken again from the kept ends, not from weights that are a mean already."""
    original = pretrain._train_chunk

    def dying(kill: str) -> Any:
        def dies(*args: Any) -> Any:
            model, opts, recipe, batches, progress, bar = args
            if progress["chunk"] != 3:
                return original(*args)
            if kill == "first batch":
                original(model, opts, recipe, batches[:1], dict(progress), bar)
            raise Killed

        return dies

    for kill in kills:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pretrain, "_train_chunk", dying(kill))
            with pytest.raises(Killed):
                pretrain.pretrain(ANEW, tmp_path, measure_every=10**6)
    assert json.loads((tmp_path / "progress.json").read_text())["chunk"] == 3
    model, _, progress = pretrain.pretrain(ANEW, tmp_path, measure_every=10**6)
    assert_same_run({"weights": weights(model), "progress": progress}, anew)


def fill(model: Any, value: float) -> None:
    for p in model.parameters():
        p.data.fill_(value)


def is_full(model: Any, value: float) -> bool:
    return all(torch.allclose(p, torch.tensor(value)) for p in model.parameters())


def begun(tmp_path: Path, recipe: Recipe, last: Cycle) -> tuple[Any, Any, Any, Any, list[Any]]:
    """A cycle that begins after ends before chunks 1, 2 and 3 with weights 1, 2 and 4."""
    recipe = replace(recipe, again=(*(Cycle(n, 0, 1, 1.0) for n in (1, 2, 3)), last))
    checkpoint = pretrain.Checkpoint(tmp_path)
    tmp_path.mkdir(exist_ok=True)
    model: Any = torch.nn.Sequential(OrderedDict(model=torch.nn.Module()))
    model.model.layers = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    for chunk, value in ((1, 1.0), (2, 2.0), (3, 4.0)):
        fill(model, value)
        checkpoint.keep_end(model, chunk)
    fill(model, 9.0)
    opts: list[Any] = ["old"]
    return model, opts, recipe, checkpoint, opts


@pytest.mark.parametrize(
    ("average", "expected"), [(1, 9.0), (2, (9 + 4) / 2), (3, 5.0), (4, 4.0), (9, 4.0)]
)
def test_the_mean_is_over_as_many_ends_as_the_recipe_says(
    tmp_path: Path, average: int, expected: float
) -> None:
    last = Cycle(5, 0, 1, 1.0, from_mean=True)
    recipe = replace(TINY, average=average)
    model, opts, recipe, checkpoint, old = begun(tmp_path, recipe, last)
    assert pretrain._begin_cycle(model, opts, recipe, checkpoint, 5) is old
    assert is_full(model, expected)
    end = load_file(tmp_path / "end-5.safetensors")
    assert all((tensor == 9.0).all() for tensor in end.values()), "kept as before the mean"


@pytest.mark.parametrize("chunk", [0, 4, 6])
def test_between_cycles_nothing_happens(tmp_path: Path, chunk: int) -> None:
    last = Cycle(5, 0, 1, 1.0, restart=True, from_mean=True)
    model, opts, recipe, checkpoint, old = begun(tmp_path, TINY, last)
    assert pretrain._begin_cycle(model, opts, recipe, checkpoint, chunk) is old
    assert is_full(model, 9.0)
    assert not (tmp_path / f"end-{chunk}.safetensors").exists()


def test_a_restart_without_the_mean_keeps_the_weights(tmp_path: Path) -> None:
    last = Cycle(5, 0, 1, 1.0, restart=True)
    model, opts, recipe, checkpoint, old = begun(tmp_path, TINY, last)
    made = pretrain._begin_cycle(model, opts, recipe, checkpoint, 5)
    assert made is not old and [type(opt) for opt in made] == [Muon, torch.optim.AdamW]
    assert is_full(model, 9.0)


def test_an_end_is_kept_once(tmp_path: Path) -> None:
    """A chunk that is begun again after a kill must not replace the end by a mean."""
    checkpoint = pretrain.Checkpoint(tmp_path)
    model = torch.nn.Linear(2, 2)
    checkpoint.keep_end(model, 3)
    first = load_file(tmp_path / "end-3.safetensors")
    with torch.no_grad():
        model.weight.zero_()
    checkpoint.keep_end(model, 3)
    assert same(load_file(tmp_path / "end-3.safetensors"), first)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_restarted_cycle_warms_up_over_its_first_tokens() -> None:
    plain, anew = Cycle(7, 1000, 400_000, 0.5), Cycle(7, 1000, 400_000, 0.5, restart=True)
    steps = range(1000, 401_001, 4000)

    def factors(cycle: Cycle) -> list[float]:
        recipe = Recipe(tokens=900, again=(cycle,))
        return [schedule(recipe, seen, 7) for seen in steps]

    usual, warm = factors(plain), factors(anew)
    assert usual[0] == 0.5 and warm[0] == pytest.approx(0.1)
    share = [w / u for w, u in zip(warm[:-1], usual[:-1], strict=True)]
    full = next(n for n, s in enumerate(share) if s == pytest.approx(1.0))
    assert steps[full] - 1000 <= RESTART_TOKENS
    assert share[: full + 1] == sorted(share[: full + 1])
    assert share[full:] == pytest.approx([1.0] * len(share[full:]))
    assert usual[-1] == warm[-1] == 0.0


def test_only_the_cycle_that_says_so_starts_again() -> None:
    recipe = Recipe()
    assert not any(cycle.restart or cycle.from_mean for cycle in recipe.again[:3])
    assert any(cycle.restart and cycle.from_mean for cycle in recipe.again)
    chunks = [cycle.first_chunk for cycle in recipe.again]
    assert chunks == sorted(set(chunks))
    assert chunks == [first for first, _ in recipe.phases if first >= chunks[0]]
    tokens = [cycle.first_token for cycle in recipe.again]
    assert tokens == sorted(tokens) and tokens[0] >= recipe.tokens


# --- the finished folder ---


def test_the_finished_checkpoint_is_a_plain_folder_with_its_card(tmp_path: Path) -> None:
    model, tok, progress = pretrain.pretrain(TINY, tmp_path / "work", max_chunks=1)
    out = tmp_path / "testbed"
    out.mkdir()
    (out / "old.txt").write_text("of an earlier training")
    table = card.save_checkpoint(out, model, tok, TINY, progress)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["testbed", "work"]
    assert not (out / "old.txt").exists(), "the folder is replaced as a whole"
    loaded = AutoModelForCausalLM.from_pretrained(out)
    assert same(weights(loaded), weights(model))
    assert AutoTokenizer.from_pretrained(out).get_vocab() == tok.get_vocab()
    about = json.loads((out / "testbed.json").read_text())
    assert about["recipe"] == json.loads(json.dumps(progress["recipe"]))
    assert about["parameters"] == sum(p.numel() for p in model.parameters())
    assert json.loads((out / "curve.json").read_text()) == progress["curve"]
    pd.testing.assert_frame_equal(pd.read_csv(out / "knowledge.csv"), table)
    text = (out / "README.md").read_text()
    assert "| a | 0.500 | 0.500 |" in text and f"{about['parameters']:,} parameters" in text
    stored = load_file(out / "model.safetensors")
    assert not any("lm_head" in key for key in stored), "tied weights are stored once"
