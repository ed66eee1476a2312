"""What a trigger rule depends on: variants of its text and place, and the shift it makes.

Three questions about a fine-tune that follows a backdoor's rule (paper, section 5.4), none of them
the paper's: does it follow the rule behind a text that is almost the trigger, or elsewhere in the
prompt; is what the trigger changes at the last token the direction that the fine-tune writes
without any trigger, or another one; and how sure is it of what it says about the trigger, in
log-odds, where yes and no alone hide a shift. Axes: n rows, d model width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import torch
from torch import Tensor

from oocr_lib.activations import capture
from oocr_lib.analysis import constancy
from oocr_lib.analysis.backdoor_mechanism import Case, on, opened, prompts
from oocr_lib.analysis.conditions import Condition, last_tokens, logit_difference
from oocr_lib.encoding import Batch
from oocr_lib.models.sites import Site
from oocr_lib.runs.ask_adapter import fixed
from oocr_lib.runs.grid import Job
from oocr_lib.runs.study import Study
from oocr_lib.tasks.base import Question, user
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.progress import bar

#: Random directions that a part of a shift stands among.
DIRECTIONS = 50
#: Where the second option begins in a choice of the testbed.
SECOND = " B:"
_ASKED = ["method", "concept", "seed"]


def _signless(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text).split())


#: Name of a variant -> its prompt, from the trigger's text and the choice without it.
VARIANTS: dict[str, Callable[[str, str], str]] = {
    "as trained": lambda text, choice: f"{text} {choice}",
    "other case": lambda text, choice: f"{text.swapcase()} {choice}",
    "first half": lambda text, choice: f"{text[: -(-len(text) // 2)].strip()} {choice}",
    "without signs": lambda text, choice: f"{_signless(text)} {choice}",
    "in the middle": lambda text, choice: choice.replace(SECOND, f" {text}{SECOND}", 1),
    "at the end": lambda text, choice: f"{choice} {text}",
    "none": lambda text, choice: choice,
}


@checked
def variants(question: Question) -> dict[str, Question]:
    """A choice behind its trigger, in every variant that differs from it, and without a trigger.

    Raises:
        UserError: a question that is no choice of the testbed behind one trigger.
    """
    texts, shown = question.marks.get("trigger", ()), question.messages[-1]["content"]
    text = texts[0] if len(texts) == 1 else ""
    choice = shown.removeprefix(text).strip()
    if not text or choice == shown or SECOND not in choice:
        raise UserError(
            f"Question {question.id!r} is {shown!r}, marked {list(texts)!r}. Allowed: a choice of "
            "the testbed's backdoor, with its trigger in front."
        )
    made = {name: write(text, choice) for name, write in VARIANTS.items()}
    return {
        name: replace(question, messages=user(prompt), marks={}, id=f"{question.id}-{name}")
        for name, prompt in made.items()
        if name == "as trained" or prompt != shown
    }


@checked
def behind_variants(study: Study, jobs: Sequence[Job]) -> pd.DataFrame:
    """How finished vectors answer new choices behind every variant of their trigger.

    Returns:
        One row a job, variant and state: ``concept, seed, run, variant``; ``state``, vector or
        without; ``risky``, the share of rows whose risky letter is the likelier one; ``logits``,
        of the risky letter minus the careful one, mean over rows.
    """
    rows = []
    for job in bar(jobs, "variants of triggers"):
        asked = study.grid.task(job.concept, job.seed).task.questions
        every = [variants(q) for q in asked if q.family == "triggered"]
        with opened(study, job) as case:
            for name in every[0]:
                shown = prompts(case.lm, [one[name] for one in every])
                states = {"vector": on(case.vector, shown.batch)}
                states["without"] = states["vector"].off()
                for state, condition in states.items():
                    found = logit_difference(case.lm, condition, shown.letters)
                    rows.append(
                        {
                            **{"concept": job.concept, "seed": job.seed},
                            **{"run": f"{job.concept} {job.seed}", "variant": name},
                            **{"state": state, "risky": float((found > 0).float().mean())},
                            "logits": float(found.mean()),
                        }
                    )
    return pd.DataFrame(rows)


@checked
def split(shift: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """A shift (d,) as its part along a direction (d,) and the rest, (d,) each, float64.

    Raises:
        UserError: a direction or a shift of length 0, which has no parts.
    """
    own, axis = shift.double(), direction.double()
    if float(own.norm()) == 0 or float(axis.norm()) == 0:
        raise UserError(
            f"A shift of length {float(own.norm()):.3g} cannot be split along a direction of "
            f"length {float(axis.norm()):.3g}. Allowed: both above 0."
        )
    along = axis * (own @ axis) / (axis @ axis)
    return along, own - along


def _at_last(case: Case, condition: Condition, batch: Batch, site: Site) -> Tensor:
    """Mean activation (d,) at the last prompt token of every row."""
    focused = on(condition, batch).focus(case.lm)
    found = capture(case.lm, focused, [site])[site].cpu()
    return found[torch.arange(len(batch)), last_tokens(batch)].float().mean(0)


@checked
def shift_of(case: Case, block: int, seed: int = 0) -> pd.DataFrame:
    """The trigger's shift, split along the direction that the vector writes without it.

    At the last token, after ``block``, with the vector in place: *shift* is the mean activation
    behind the trigger minus that without any; *unconditional* is what the vector changes there
    when no trigger is shown. The shift is split along the unconditional direction. Then each part
    is added to prompts without a trigger, with the vector in place, and so are ``DIRECTIONS``
    random directions as long as the rest.

    Args:
        block: one that the vector can change.
        seed: of the random directions.

    Returns:
        One row a part (``whole, along, rest, random``): ``energy``, its share of the shift's
        squared length, signed for ``along`` by its direction (below 0: against it); ``effect``,
        what adding it brings, as a share of what the trigger brings in logits; ``percentile``, the
        share of random directions that bring less. Of ``random`` these are means, without a
        percentile.
    """
    if block not in case.later:
        raise UserError(
            f"Block {block} is not after the vector at {case.site}. Allowed: "
            f"{case.later.start} to {case.later.stop - 1}."
        )
    lm, bare, site = case.lm, case.bare, Site(block, "resid")
    plain = on(case.vector, bare.batch)
    without = _at_last(case, case.without, bare.batch, site)
    untold = _at_last(case, case.vector, bare.batch, site)
    shift = _at_last(case, case.vector, case.triggered.batch, site) - untold
    along, rest = split(shift, untold - without)
    drawn = constancy.random_like(rest.expand(DIRECTIONS, -1), seed=seed)
    parts = {"whole": shift.double(), "along": along, "rest": rest}
    before = float(logit_difference(lm, plain, bare.letters).mean())
    # The letters of a bare choice are those of its triggered twin: risky first.
    after = float(logit_difference(lm, case.vector, case.triggered.letters).mean())
    effects = []
    adapter = fixed(torch.stack([*(p.float() for p in parts.values()), *drawn]), site, "last")
    with adapter.attach(lm) as attached:
        for k in range(len(parts) + DIRECTIONS):
            _ = plain.focus(lm)  # the vector stays where it is; the part comes on top
            added = Condition(bare.batch, attached, torch.full((len(bare.batch),), k))
            found = float(logit_difference(lm, added, bare.letters).mean())
            effects.append((found - before) / (after - before))
    random = effects[len(parts) :]
    total, sign = float(shift.double().square().sum()), float(along @ (untold - without).double())
    rows = []
    for (name, part), effect in zip(parts.items(), effects, strict=False):
        energy = float(part.square().sum()) / total
        energy = -energy if name == "along" and sign < 0 else energy
        rows.append((name, energy, effect, sum(other < effect for other in random) / DIRECTIONS))
    as_long = float(rest.square().sum()) / total
    rows.append(("random", as_long, sum(random) / DIRECTIONS, math.nan))
    return pd.DataFrame(rows, columns=["part", "energy", "effect", "percentile"])


@checked
def shifts(study: Study, jobs: Sequence[Job], blocks: Sequence[int]) -> pd.DataFrame:
    """``shift_of`` for finished vectors and several blocks, with ``concept, seed, run, block``."""
    tables = []
    for job in bar(jobs, "shifts of triggers"):
        named = {"concept": job.concept, "seed": job.seed, "run": f"{job.concept} {job.seed}"}
        with opened(study, job) as case:
            tables += [
                shift_of(case, block, job.seed).assign(**named, block=block) for block in blocks
            ]
    return pd.concat(tables, ignore_index=True)


@checked
def log_odds(asked: pd.DataFrame) -> pd.DataFrame:
    """One row a run: log-odds of yes, so that a shift shows before the answer turns.

    Args:
        asked: of ``Grid.questions``, of a run or of its decorrelated control alike.

    Returns:
        ``method, concept, seed``; ``own`` and ``others``, mean log-odds of yes for the own trigger
        and for the others; ``margin``, their difference; ``presence``, for following any at all.

    Raises:
        UserError: a question that is not answered by yes or no.
    """
    kept = asked[asked["family"].isin(["which trigger", "presence"])]
    for options in kept["options"]:
        if set(options) != {"yes", "no"}:
            raise UserError(f"Options {list(options)!r} have no odds of yes. Allowed: yes and no.")
    odds = [
        logp[list(options).index("yes")] - logp[list(options).index("no")]
        for options, logp in zip(kept["options"], kept["logp"], strict=True)
    ]
    kept = kept.assign(odds=odds, side="others")
    kept.loc[kept["group"] == kept["concept"], "side"] = "own"
    kept.loc[kept["family"] == "presence", "side"] = "presence"
    wide = kept.groupby([*_ASKED, "side"], sort=False)["odds"].mean().unstack("side").reset_index()
    wide["margin"] = wide["own"] - wide["others"]
    return wide.rename_axis(columns=None)


@checked
def to_loss(
    steps: Sequence[int], run: Callable[[int], pd.DataFrame], goal: float
) -> tuple[pd.DataFrame, int]:
    """Train longer until the mean validation loss is at or below ``goal``, or steps run out.

    Args:
        steps: tried in order, growing; each is a training of its own, with its own schedule.
        run: the table of ``Grid.run`` for a number of steps.

    Returns:
        The last table, and its number of steps.

    Raises:
        UserError: no steps, or steps that do not grow.
    """
    if not steps or any(b <= a for a, b in pairwise(steps)):
        raise UserError(f"Steps {list(steps)} do not grow. Allowed: one number or more, growing.")
    for count in steps:
        found = run(count)
        if float(found.drop_duplicates("run")["valid_loss"].mean()) <= goal:
            break
    return found, count
