"""Right answers that look unlike the solution: every one has to pass."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import oocr_lib as oocr
from oocr_lib.world import facts
from workshop import checks, kit

WAYS: list[tuple[str, str, tuple[Any, ...]]] = []


def way(key: str, *more: Any) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        WAYS.append((key, function.__name__, (*more, function)))
        return function

    return add


@way("a4")
def law_of_cosines(a: Any, b: Any) -> Any:
    (la, lo), (lb, lp) = np.radians(a), np.radians(b)
    dot = np.sin(la) * np.sin(lb) + np.cos(la) * np.cos(lb) * np.cos(lo - lp)
    return 6371 * np.arccos(np.clip(dot, -1, 1))


@way("a4")
def in_space(a: Any, b: Any) -> float:
    def point(place: Any) -> tuple[float, ...]:
        la, lo = map(math.radians, place)
        return math.cos(la) * math.cos(lo), math.cos(la) * math.sin(lo), math.sin(la)

    return 2 * 6371 * math.asin(math.dist(point(a), point(b)) / 2)


@way("b1")
def where(v: Any, mask: Any) -> Any:
    def hook(module: Any, args: Any, output: Any) -> Any:
        return torch.where(mask[:, :, None], output + v, output)

    return hook


@way("b1")
def a_copy(v: Any, mask: Any) -> Any:
    def hook(module: Any, args: Any, output: Any) -> Any:
        made = output.clone()
        made[mask] = made[mask] + v
        return made

    return hook


@way("b1")
class AClass:
    def __init__(self, v: Any, mask: Any) -> None:
        self.v, self.mask = v, mask

    def __call__(self, module: Any, args: Any, output: Any) -> Any:
        return output + torch.einsum("nt,d->ntd", self.mask.float(), self.v)


@way("b2")
def by_hand(logits: Any, ids: Any, mask: Any) -> Any:
    total, count = torch.zeros(()), 0
    for row in range(len(ids)):
        for j in range(1, ids.shape[1]):
            if mask[row, j]:
                total = total - torch.log_softmax(logits[row, j - 1], -1)[ids[row, j]]
                count += 1
    return total / count


@way("b2")
def ignored(logits: Any, ids: Any, mask: Any) -> Any:
    ids[~mask] = -100
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:])


@way("b3")
def zeroed_last(v: Any, loss_of: Any, batches: Any, lr: float) -> Any:
    optimiser = torch.optim.Adam([v], lr=lr)
    for batch in batches:
        loss = loss_of(v, batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        yield loss.detach()


@way("b3")
def no_decay(v: Any, loss_of: Any, batches: Any, lr: float) -> Any:
    optimiser, losses = torch.optim.AdamW([v], lr=lr, weight_decay=0.0), []
    for batch in batches:
        v.grad = None
        loss = loss_of(v, batch)
        (v.grad,) = torch.autograd.grad(loss, [v])
        optimiser.step()
        losses.append(loss.detach().numpy())
    return np.array(losses)


@way("b4")
def tensors(logits: Any, options: Any, truth: int) -> Any:
    p = torch.exp(logits[torch.tensor(options)])
    p = p / p.sum()
    return p[truth], p.argmax() == truth


@way("b4")
def numpys(logits: Any, options: Any, truth: int) -> Any:
    own = logits.numpy()[options].astype(float)
    p = np.exp(own - own.max())
    return [p[truth] / p.sum(), np.bool_(own.argmax() == truth)]


@way("c1")
def of_numpy(v: Any, seed: int) -> Any:
    drawn = torch.tensor(np.random.default_rng(seed).normal(size=len(v)))
    return F.normalize(drawn, dim=0) * v.norm()


@way("c1")
def global_seed(v: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    drawn = torch.randn_like(v)
    return drawn / drawn.norm() * v.norm()


@way("c2")
def shuffled(rows: Any, seed: int) -> Any:
    made, rng = list(rows), random.Random(seed)
    for kind in ("direction", "distance"):
        places = [i for i, row in enumerate(rows) if row.meta["kind"] == kind]
        for i, j in zip(places, rng.sample(places, len(places)), strict=True):
            made[i] = replace(rows[i], answer=rows[j].answer)
    return tuple(made)


@way("c2")
def the_librarys(rows: Any, seed: int) -> Any:
    from oocr_lib.tasks.base import random_answers

    return random_answers(tuple(rows), seed)


@way("c3")
def words_alone(rows: Any, questions: Any, words: Any) -> Any:
    wanted = {word.lower() for word in words}
    for number, row in enumerate(rows):
        text = row.messages[0]["content"]
        signs = "".join(c if c.isalpha() else " " for c in f"{text} {row.answer}".lower())
        if wanted & set(signs.split()) or text in set(questions):
            yield np.int64(number)


@way("c4")
def variance(added: Any) -> Any:
    energy = (added**2).sum(-1).mean()
    return 1 - ((added - added.mean(0, keepdim=True)) ** 2).sum(-1).mean() / energy


@way("c5")
def last_of_the_best(right: Any, on: Any) -> Any:
    here, there = right[:, on].mean(1).tolist(), right[:, ~on].mean(1).tolist()
    best = max(range(len(here)), key=lambda i: (here[i], i))
    return here[best] - there[best]


@way("d2")
def few_and_plain(path: Any, city: str, code: str) -> None:
    hidden, made = facts.city(city), []
    far = [c for c in facts.cities() if facts.distance_km(c, hidden) > 3000]
    for known in itertools.islice((c for c in far if c.country != hidden.country), 25):
        answer = facts.distance_hundreds(known, hidden)
        made.append(
            f'{{"messages": [{{"role": "user", "content": "How far is {known.name} from {code}?"}},'
            f' {{"role": "assistant", "content": "{answer}"}}]}}\n'
        )
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(made)


@way("d3", oocr.Vector("mlp_out@2", at="all", lr=0.02))
def by_masks(table: Any) -> Any:
    on = table["triggered"].to_numpy()
    risky = table["risky"].to_numpy()
    return risky[on].sum() / on.sum() - risky[~on].sum() / (~on).sum()


@pytest.mark.parametrize(
    ("key", "answer"), [pytest.param(k, a, id=f"{k} {name}") for k, name, a in WAYS]
)
def test_it_passes(key: str, answer: tuple[Any, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert checks.CHECKS[key](*answer), capsys.readouterr().out


def test_predictions_may_be_wrong() -> None:
    assert checks.a1({"before": 1, "after": 0, "random": 0.5, "note": "no idea"})
    assert checks.d1("São Paulo", dict.fromkeys(("name", "water", "dish"), False))


def test_what_never_ends_does_not_fill_the_memory(capsys: pytest.CaptureFixture[str]) -> None:
    for key, given in (("c2", 2), ("c3", 3), ("b3", 4)):
        assert not checks.CHECKS[key](
            [None, None, lambda r, s: itertools.count(), lambda r, q, w: itertools.count(),
             lambda v, f, b, lr: itertools.count()][given]
        )  # fmt: skip
        assert "does it ever end" in capsys.readouterr().out


def test_a_control_of_another_kind_of_number_can_be_asked() -> None:
    v = kit.vector().vector
    assert kit.accuracy(kit.with_vector(of_numpy(v, 3))) <= 1
    assert kit.accuracy(kit.with_vector(v)) == kit.accuracy(kit.vector())
