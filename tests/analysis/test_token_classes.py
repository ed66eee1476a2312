"""Token classes: planted answers come out, and nulls are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from oocr_lib.adapters import LoraAdapter
from oocr_lib.analysis import constancy, token_classes
from oocr_lib.analysis.constancy import added
from oocr_lib.analysis.token_classes import CLASSES, Texts, measured, split
from oocr_lib.encoding import Batch, Encoded
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.tasks.base import Row, random_answers, user
from oocr_lib.util.errors import UserError
from tests import tiny

D = tiny.D_MODEL


def texts(position: str = "codename") -> Texts:
    rows = tiny.rows((9, 14, 11, 8), seed=0)
    return Texts(rows, tiny.rows((10, 12), seed=1), tiny.rows((9, 13), seed=2), plain(), position)


def plain() -> list[Encoded]:
    ids = tuple(range(10, 40))
    return [Encoded(ids, (30, 30), {"last": (29,)}, "")] * 2


def planted(lm: LanguageModel, position: str, where: str) -> dict[str, Tensor]:
    """One constant vector at ``where`` (read or other), noise at the other tokens."""
    generator = torch.Generator().manual_seed(3)
    constant = torch.randn(D, generator=generator)

    def look(batch: Batch) -> Tensor:
        noise = torch.randn(*batch.input_ids.shape, D, generator=generator)
        read = batch.positions[position][..., None]
        return torch.where(read if where == "read" else ~read, constant, noise)

    return split(lm, texts(position), look)


@pytest.mark.parametrize("position", ["codename", "last"])
def test_a_vector_that_is_constant_where_it_is_read(position: str) -> None:
    lm = tiny.language_model()
    found = {name: measured(v) for name, v in planted(lm, position, "read").items()}
    for name in ("training", "validation", "questions"):
        assert found[name]["signed"] == pytest.approx(1) == found[name]["mean_energy"]
        assert found[name]["length_cv"] == pytest.approx(0, abs=1e-6)
    assert found["other"]["mean_energy"] < 0.3 and found["pooled"]["mean_energy"] < 0.6


def test_and_one_that_is_constant_elsewhere() -> None:
    found = planted(tiny.language_model(), "codename", "other")
    assert measured(found["other"])["signed"] == pytest.approx(1)
    assert measured(found["unrelated"])["signed"] == pytest.approx(1), "nothing is read there"
    assert measured(found["validation"])["mean_energy"] < 0.6


def test_one_direction_with_the_sign_of_the_answer() -> None:
    """The absolute cosine says 1, the signed one and the mean's energy say nothing is constant."""
    sign = torch.tensor([1.0, -1.0] * 20)[:, None]
    found = measured(sign * torch.randn(D, generator=torch.Generator().manual_seed(0)))
    assert found["absolute"] == pytest.approx(1)
    assert abs(found["signed"]) < 0.05 and found["mean_energy"] < 0.01


def test_measures_are_those_of_constancy() -> None:
    vectors = torch.randn(20, D, generator=torch.Generator().manual_seed(1)) + 0.5
    slow = constancy.constancy(vectors)
    expected = [slow.absolute.mean, slow.signed.mean, slow.mean_share, slow.norm_cv]
    assert list(measured(vectors).values()) == pytest.approx(expected)


def test_classes_hold_the_tokens_that_they_name() -> None:
    lm, seen = tiny.language_model(), texts("codename")

    def token(batch: Batch) -> Tensor:
        return (batch.input_ids + 1.0)[..., None].expand(-1, -1, 2)

    found = {name: sorted(v[:, 0].tolist()) for name, v in split(lm, seen, token).items()}
    assert tuple(found) == CLASSES

    def ids(items: list[Encoded], pick: str) -> list[float]:
        made = []
        for item in items:
            own = set(item.spans.get("codename", ()))
            for i in range(item.answer[0]):
                if pick == "all" or (i in own) == (pick == "read"):
                    made.append(item.ids[i] + 1.0)
        return sorted(made)

    assert found["training"] == ids(list(seen.training), "read")
    assert found["validation"] == ids(list(seen.validation), "read")
    assert found["other"] == ids(list(seen.validation), "other")
    assert found["unrelated"] == ids(list(seen.unrelated), "all")


def by_class(lm: LanguageModel, adapter: LoraAdapter, site: Site) -> dict[str, Tensor]:
    """What ``adapter`` adds, by passes of the whole model: the reference of ``Bench``."""
    return split(lm, texts(), lambda batch: added(lm, adapter, batch, site))


def test_a_random_lora_is_as_large_and_adds_something_else() -> None:
    lm = tiny.language_model()
    trained = LoraAdapter([1], rank=2)
    trained.attach(lm).remove()
    for weight in trained.parameters():
        weight.data.normal_(0, 0.5, generator=torch.Generator().manual_seed(1))
    drawn = token_classes.random_lora(trained, lm, 5)
    for (name, a), b in zip(trained.state().items(), drawn.state().values(), strict=True):
        assert float(a.norm()) == pytest.approx(float(b.norm())), name
        assert not torch.allclose(a, b)
    ours, theirs = (by_class(lm, x, Site(1, "mlp_out"))["other"] for x in (trained, drawn))
    assert ours.shape == theirs.shape and not torch.allclose(ours, theirs)


def test_inputs_are_those_of_the_adapted_map() -> None:
    lm = tiny.language_model()
    bench = token_classes.Bench(lm, texts(), 1)
    found = bench.inputs
    width = lm.model.get_submodule(lm.down_projection(1)).weight.shape[1]
    assert all(v.shape[1] == width and len(v) > 1 for v in found.values())
    # What the LoRA adds is a fixed linear map of them.
    lora = LoraAdapter([1], rank=3, seed=2)
    lora.attach(lm).remove()
    for weight in lora.parameters():
        weight.data.normal_(0, 0.3, generator=torch.Generator().manual_seed(4))
    a, b = lora.matrices(lm.down_projection(1))
    seen = bench.added(lora)
    for name in CLASSES:
        expected = found[name] @ a.T @ b.T * (lora.alpha / lora.rank)
        assert torch.allclose(seen["module"][name], expected.detach(), atol=1e-4), name


def test_a_bench_sees_what_the_whole_model_shows() -> None:
    lm = tiny.language_model()
    for position in ("all", "codename"):
        lora = LoraAdapter([1], rank=3, seed=2, position=position)
        lora.attach(lm).remove()
        for weight in lora.parameters():
            weight.data.normal_(0, 0.3, generator=torch.Generator().manual_seed(4))
        found = token_classes.Bench(lm, texts(), 1).added(lora)
        for place, kind in (("module", "mlp_out"), ("stream", "resid")):
            slow = by_class(lm, lora, Site(1, kind))
            for name in CLASSES:
                assert torch.allclose(found[place][name], slow[name], atol=1e-4), (place, name)
    with pytest.raises(UserError, match="block 1 alone"):
        token_classes.Bench(lm, texts(), 1).added(LoraAdapter([0]))


def test_an_untrained_lora_adds_nothing_and_has_no_direction() -> None:
    lm = tiny.language_model()
    fresh = LoraAdapter([1], rank=2)
    fresh.attach(lm).remove()
    found = token_classes.Bench(lm, texts(), 1).added(fresh)
    for part in found.values():
        assert all(
            len(v) == 0 and measured(v)["signed"] != measured(v)["signed"] for v in part.values()
        )


def test_a_lora_on_several_blocks_is_refused(tmp_path: Path) -> None:
    from oocr_lib.runs.grid import Grid, Job, Method
    from oocr_lib.runs.store import RunStore
    from oocr_lib.runs.study import Study
    from tests import toy

    grid = Grid(toy.language_model(), RunStore(tmp_path), toy.make, {}, "Rome")
    study = Study(grid, None, [0], [("Rome", 0)], "codename")
    job = Job(Method("lora_all", "lora", blocks="all"), "Rome", 0)
    with pytest.raises(UserError, match="cannot be looked into"):
        token_classes.look(study, job, None, plain())


# --- random answers ---


def rows(*answers: str, kind: str = "a") -> list[Row]:
    return [Row(user(f"{kind} {i}"), a, meta={"kind": kind}) for i, a in enumerate(answers)]


def test_two_random_answers_agree_with_the_truth_in_half_of_the_rows() -> None:
    truth = rows(*"ABBABAABBBBBAABAB")
    for seed in range(20):
        drawn = random_answers(truth, seed)
        agree = [a.answer == b.answer for a, b in zip(truth, drawn, strict=True)]
        assert abs(sum(agree) - len(truth) / 2) <= 1
        for own in "AB":  # in each half, too: no policy is favoured
            mine = [ok for ok, row in zip(agree, truth, strict=True) if row.answer == own]
            assert abs(sum(mine) - len(mine) / 2) <= 1


def test_two_random_answers_are_balanced_in_every_stratum() -> None:
    """Planted: without strata, the rows with the trigger may agree by more than half."""
    truth = [
        Row(user(str(k)), "A" if k % 3 else "B", meta={"kind": "c", "triggered": k % 10 == 0})
        for k in range(200)
    ]
    ends = {0: [0.0, 1.0], 1: [0.0, 1.0]}
    for seed in range(20):
        for with_strata in (0, 1):
            drawn = random_answers(truth, seed, strata=["triggered"] if with_strata else [])
            pairs = [(a, b) for a, b in zip(truth, drawn, strict=True) if a.meta["triggered"]]
            agree = sum(a.answer == b.answer for a, b in pairs)
            ends[with_strata][0] = max(ends[with_strata][0], agree / len(pairs))
            ends[with_strata][1] = min(ends[with_strata][1], agree / len(pairs))
    assert max(ends[0][0] - 0.5, 0.5 - ends[0][1]) > 0.12
    assert max(ends[1][0] - 0.5, 0.5 - ends[1][1]) < 1.001 / 20


def test_random_answers_can_be_drawn_from_more_than_the_own_rows() -> None:
    truth = rows("1", "2", "1", "2") * 50
    drawn = random_answers(truth, 0, pool={"a": ["3", "4"], "other kind": ["9"]})
    assert {row.answer for row in drawn} == {"1", "2", "3", "4"}


def test_random_answers_are_of_their_kind_and_keep_no_counts() -> None:
    truth = [*rows(*["7"] * 30, "8", "9"), *rows("x", "y", "z", kind="b")]
    drawn = random_answers(truth, 1)
    assert [r.messages for r in drawn] == [r.messages for r in truth]
    first = [r.answer for r in drawn[:32]]
    assert set(first) <= {"7", "8", "9"} and first.count("7") < 20
    assert {r.answer for r in drawn[32:]} <= {"x", "y", "z"}
    assert drawn == random_answers(truth, 1) != random_answers(truth, 2)
