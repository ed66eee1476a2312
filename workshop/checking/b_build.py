"""Checks of session B: hook, loss, loop and scores, each beside the library's.

Axes: n rows, t tokens, d width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import oocr_lib as oocr
from workshop import kit
from workshop.checking.verdicts import (
    SAME,
    Wrong,
    call,
    check,
    kind,
    listed,
    named,
    number,
    same,
    tensor,
)

#: The short training that is compared with the library's.
STEPS, SIZE, LR = 6, 8, 0.05


@check("b1", "make_hook", "A hook is a function of (module, args, output) that returns a tensor.")
def b1(make_hook: Any) -> str | None:
    """A hook that adds a vector at the marked tokens only, as the library's does."""
    drawn = torch.Generator().manual_seed(0)
    for n, t, d in ((2, 5, 8), (1, 3, 4)):
        v = torch.randn(d, generator=drawn).requires_grad_()
        out = torch.randn(n, t, d, generator=drawn)
        mask = torch.zeros(n, t, dtype=torch.bool)
        mask[:, 1] = True
        mask[-1, -2] = True
        _hook_adds(make_hook, v, out, mask)
    rows = kit.batch(4)
    theta = torch.randn(kit.lm().d_model, generator=drawn) / kit.lm().d_model ** 0.5
    hook = call(make_hook, "make_hook", theta * kit.scale(), rows.positions["codename"])
    handle = kit.lm().module(kit.SITE).register_forward_hook(hook)
    try:
        mine = kit.logits(rows)
    except Exception as error:
        raise Wrong(f"in the model the hook raised {type(error).__name__}: {error}") from None
    finally:
        handle.remove()
    if not torch.allclose(mine, kit.steered(theta, rows), rtol=SAME, atol=1e-3):
        raise Wrong("in the model the answers differ from the library's with the same vector")
    return "the model says the same with your hook and with the library's"


def _hook_adds(make_hook: Any, v: Tensor, out: Tensor, mask: Tensor) -> None:
    """Try a hook on one small tensor."""
    hook = call(make_hook, "make_hook", v, mask)
    if not callable(hook):
        raise Wrong(f"make_hook returns {kind(hook)}; it should return a function")
    given = out.clone()
    got = call(hook, "the hook", None, (), given)
    if got is None:
        raise Wrong("the hook returns None, so PyTorch keeps the old output")
    if isinstance(got, tuple):
        raise Wrong("the hook returns a tuple; this model's blocks give a plain tensor")
    got = tensor(got, "what the hook returns", out.shape)
    with torch.no_grad():
        diff, at = got - out, mask[..., None]
        near = torch.isclose
        mistakes = {
            "the vector is added at all tokens, not only where the mask is True": out + v,
            "the vector is subtracted: check the sign": out - at * v,
            "the vector is added where the mask is False": out + ~at * v,
            "the old output is replaced at the marked tokens, not added to": torch.where(
                at, v.expand_as(out), out
            ),
            "only the vector is returned: the old output is lost": at * v,
            "every row has become the first one: is this output[0]?": out[0] + at * v,
            "the old output is returned unchanged": out,
        }
        if not bool(near(got, out + at * v, rtol=SAME, atol=1e-5).all()):
            for words, wrong in mistakes.items():
                if bool(near(got, wrong, rtol=SAME, atol=1e-5).all()):
                    raise Wrong(words)
            outside = bool((diff[~mask].abs() > 1e-5).any())
            raise Wrong(
                "tokens are changed where the mask is False"
                if outside
                else "what is added at the marked tokens is not the vector"
            )
    if not torch.equal(given, out):
        raise Wrong("the hook changes its output in place, which autograd may still need")
    if not got.requires_grad:
        raise Wrong("no gradient reaches the vector: was it detached or copied?")
    (slope,) = torch.autograd.grad(got.sum(), v, allow_unused=True)
    if slope is None or not torch.allclose(slope, mask.sum().float().expand_as(v)):
        raise Wrong("the gradient that reaches the vector is not right: was it detached or copied?")


@check("b2", "answer_loss", "Three tensors go in, one number comes out: print their shapes first.")
def b2(answer_loss: Any) -> str | None:
    """Cross-entropy of the answer's tokens, each predicted one place earlier."""
    for rows in (kit.uneven(), kit.batch(5)):
        logits = kit.logits(rows).requires_grad_()
        ids, mask = rows.input_ids, rows.answer_mask
        found = call(answer_loss, "answer_loss", logits, ids.clone(), mask.clone())
        value = number(found, "the loss")
        right, mistakes = _losses(logits.detach(), ids, mask, rows.lengths)
        named(value, right, mistakes, "the loss")
        if not isinstance(found, Tensor) or not found.requires_grad:
            raise Wrong("the loss is only a number: without its graph no gradient can flow back")
        (slope,) = torch.autograd.grad(found, logits, allow_unused=True)
        if slope is None or not bool(slope.abs().sum() > 0):
            raise Wrong("no gradient reaches the logits: was something detached?")
    return "the same loss as the library's"


def _losses(
    logits: Tensor, ids: Tensor, mask: Tensor, lengths: Tensor
) -> tuple[float, dict[str, float]]:
    """The right loss, and what comes of typical mistakes."""
    log_p = F.log_softmax(logits, -1)
    ahead = -log_p[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]  # token j + 1, predicted at j
    at = mask[:, 1:]
    real = (torch.arange(ids.shape[1])[None] < lengths[:, None])[:, 1:]
    here = -log_p.gather(-1, ids[..., None])[..., 0]
    by_row = (ahead * at).sum(1) / at.sum(1)
    right = float(ahead[at].mean())
    behind = -log_p[:, 1:].gather(-1, ids[:, :-1, None])[..., 0]
    return right, {
        "the loss is over the whole row: only the answer's tokens count": float(ahead[real].mean()),
        "the loss is over the whole row, padding too: only the answer's tokens count": float(
            ahead.mean()
        ),
        "the loss is over the prompt: the mask is the wrong way round": float(
            ahead[real & ~at].mean()
        ),
        "off by one: the logits at a token are compared with that token itself": float(
            here[mask].mean()
        ),
        "off by one: the answer's tokens are shifted, but the mask is not": float(
            ahead[mask[:, :-1]].mean()
        ),
        "shifted the wrong way: the logits are compared with the token before": float(
            behind[mask[:, 1:]].mean()
        ),
        "the sign is wrong: a loss falls while the answer becomes likelier": -right,
        "this is the sum; the mean over answer tokens is asked for": float(ahead[at].sum()),
        "this is the mean over rows of their sums; the mean over all answer tokens is asked "
        "for": float((ahead * at).sum(1).mean()),
        "rows count the same whatever their number of answer tokens; every answer token should "
        "count the same": float(by_row.mean()),
        "the mean is taken over all tokens of the batch, not over the answer's": float(
            (ahead * at).mean()
        ),
        "this is a mean of probabilities, not of logarithms": float((-ahead[at]).exp().mean()),
    }


@check(
    "b3",
    "train_vector",
    "v, a loss and batches go in, a list with one number for each batch comes out.",
    lambda: kit.library_losses(STEPS, SIZE, LR),
)
def b3(train_vector: Any) -> str | None:
    """A training loop with Adam: zero the gradient, go backward, step, and keep the loss."""
    targets = [torch.tensor([1.0, -2.0, 0.5]) * (1 + i % 3) for i in range(12)]
    v = torch.zeros(3, requires_grad=True)
    reached: list[None] = []
    v.register_hook(lambda slope: reached.append(None))  # zero_grad may come last and hide it
    losses = call(train_vector, "train_vector", v, _distance, targets, 0.1)
    found = _loss_list(losses, len(targets))
    if not reached:
        raise Wrong("no gradient reaches v: is backward called, and on a loss of v, not of a copy?")
    if not bool(v.detach().any()):
        raise Wrong("v itself is still where it began: is step called, with v in the optimiser?")
    right, mistakes = _descents(targets, 0.1)
    if not torch.allclose(v.detach(), right, rtol=SAME, atol=1e-4):
        for words, wrong in mistakes.items():
            if torch.allclose(v.detach(), wrong, rtol=SAME, atol=1e-4):
                raise Wrong(words)
        raise Wrong("v ends elsewhere than after one step of Adam for each batch, in their order")
    own = _trace(targets, 0.1)
    if not all(same(a, b) for a, b in zip(found, own, strict=True)):
        raise Wrong("the losses in the list are not those of each batch before its own step")
    return _loop_on_the_model(train_vector)


def _loop_on_the_model(train_vector: Any) -> str:
    """The same loop on real rows, beside the library's."""
    theta = torch.zeros(kit.lm().d_model, requires_grad=True)
    batches = kit.rows_in_order(STEPS, SIZE)
    found = call(train_vector, "train_vector", theta, _model_loss, batches, LR)
    wanted = kit.library_losses(STEPS, SIZE, LR)
    for step, (mine, theirs) in enumerate(zip(_loss_list(found, STEPS), wanted, strict=True), 1):
        if not math.isclose(mine, theirs, rel_tol=1e-2):
            raise Wrong(
                f"on real rows the loss at step {step} is {mine:.4f}, of the library's "
                f"loop {theirs:.4f}"
            )
    return "the same losses as the library's loop, step by step"


def _loss_list(losses: Any, count: int) -> list[float]:
    made = listed(losses, "what train_vector returns")
    if len(made) != count:
        raise Wrong(f"{len(made)} losses for {count} batches: one for each is asked for")
    for one in made:
        if isinstance(one, Tensor) and one.requires_grad:
            raise Wrong(
                "the losses still carry their graphs, so memory grows with every step: keep "
                "plain numbers"
            )
    return [number(one, "a loss") for one in made]


def _distance(v: Tensor, target: Tensor) -> Tensor:
    return ((v - target) ** 2).sum()


def _descents(targets: Sequence[Tensor], lr: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Where v ends: rightly, and after typical mistakes."""

    def descend(make: Any, zero: bool = True, order: Sequence[Tensor] = targets) -> Tensor:
        v = torch.zeros(len(targets[0]), requires_grad=True)
        optimiser = make([v], lr=lr)
        for target in order:
            if zero:
                optimiser.zero_grad()
            _distance(v, target).backward()
            optimiser.step()
        return v.detach()

    def restarted() -> Tensor:
        v = torch.zeros(len(targets[0]), requires_grad=True)
        for target in targets:
            optimiser = torch.optim.Adam([v], lr=lr)
            optimiser.zero_grad()
            _distance(v, target).backward()
            optimiser.step()
        return v.detach()

    adam = torch.optim.Adam
    return descend(adam), {
        "gradients pile up from step to step": descend(adam, zero=False),
        "every step makes a new optimiser, which forgets what it knew": restarted(),
        "this is plain gradient descent; Adam is asked for": descend(torch.optim.SGD),
        "this is plain gradient descent, and gradients pile up": descend(
            torch.optim.SGD, zero=False
        ),
        "only the first batch is trained on": descend(adam, order=[targets[0]] * len(targets)),
        "the loop ends after one batch: is return inside it?": descend(adam, order=targets[:1]),
        "the batches are taken in another order": descend(adam, order=targets[::-1]),
    }


def _trace(targets: Sequence[Tensor], lr: float) -> list[float]:
    v = torch.zeros(len(targets[0]), requires_grad=True)
    optimiser, losses = torch.optim.Adam([v], lr=lr), []
    for target in targets:
        optimiser.zero_grad()
        loss = _distance(v, target)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def _model_loss(theta: Tensor, rows: Any) -> Tensor:
    """Cross-entropy of the answers with theta added at the code name."""
    added = rows.positions["codename"][..., None] * theta * kit.scale()
    handle = kit.lm().module(kit.SITE).register_forward_hook(lambda m, a, out: out + added)
    try:
        logits = kit.lm().model(input_ids=rows.input_ids, use_cache=False).logits
    finally:
        handle.remove()
    at = rows.answer_mask[:, 1:]
    return F.cross_entropy(logits[:, :-1][at].float(), rows.input_ids[:, 1:][at])


@check("b4", "among_options", "Logits and five token ids go in, a pair of numbers comes out.")
def b4(among_options: Any) -> str | None:
    """The probability of the truth among five options, and whether it is the likeliest."""
    hits: list[tuple[bool, ...]] = []  # what is returned, what is right, and two mistakes
    for logits, options, truth, right in _asked():
        found = call(among_options, "among_options", logits.clone(), list(options), truth)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise Wrong(f"among_options returns {kind(found)}; a pair (p, right) is asked for")
        p = number(found[0], "p")
        hit = _hit(found[1])
        own = logits[options]
        over_all = float(torch.softmax(logits, -1)[options[truth]])
        named(
            p,
            right[0],
            {
                "the softmax runs over the whole vocabulary, not over the options": over_all,
                "this is a logit, not a probability": float(own[truth]),
                "this is the logarithm of the probability": math.log(right[0]),
                "this divides logits by their sum, which makes no probabilities": float(
                    own[truth] / own.sum()
                ),
                "this is the probability of the likeliest option, not of the true one": float(
                    torch.softmax(own, -1).max()
                ),
            },
            "p",
        )
        if hit not in (0.0, 1.0):
            raise Wrong(f"right is {hit:g}; only 0 and 1 are asked for")
        overall, place = int(logits.argmax()), int(own.argmax())
        token = options[truth]
        hits.append((bool(hit), bool(right[1]), overall == token, place == token))
    _hits(hits)
    return "the same scores as the library's"


def _hits(hits: Sequence[tuple[bool, ...]]) -> None:
    """Name a mistake only where it explains all questions: most give the same on one of them."""
    given, right, overall, place = zip(*hits, strict=True)
    if given == right:
        return
    if given == overall:
        raise Wrong(
            "right asks for the likeliest token of the whole vocabulary: it should be the "
            "likeliest of the options"
        )
    if given == place:
        raise Wrong("right compares a place in the list of options with the id of a token")
    for mine, true in zip(given, right, strict=True):
        if mine != true:
            raise Wrong(
                f"right is {mine:d} where the truth is {'' if true else 'not '}the "
                "likeliest of the options"
            )


def _hit(value: Any) -> float:
    """0 or 1, also as True and False, of whatever library."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    return float(value) if type(value).__name__.startswith("bool") else number(value, "right")


def _asked() -> Iterator[tuple[Tensor, list[int], int, tuple[float, float]]]:
    """Logits, option tokens, place of the truth, and what the library says: drawn, then real."""
    drawn = torch.Generator().manual_seed(3)
    for case in range(10):
        truth = case % 5
        logits = torch.randn(40, generator=drawn)
        # From 5 on, so that no id of an option is a place in the list of options, too.
        options = (5 + torch.randperm(35, generator=drawn)[:5]).tolist()
        logits[options[0]] += 2
        # Likeliest of all is at first something that is no option, later an option.
        free = next(i for i in range(40) if i not in options)
        logits[free if case < 5 else options[0]] = logits.max() + 1
        p = torch.softmax(logits[options], -1)
        yield logits, options, truth, (float(p[truth]), float(p.argmax() == truth))
    data, asked = kit.city()
    table = oocr.score(kit.lm(), data, [asked[number] for number in kit.short_options()])
    for one, row in zip(kit.one_token_questions(), table.itertuples(), strict=True):
        yield *one, (float(row.p_truth), float(row.mc))
