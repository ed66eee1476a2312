"""What a trigger rule depends on: variants of its text and place, and the shift it causes.

Three questions about a fine-tune that follows a backdoor's rule (paper, section 5.4), none of them
asked in the paper: does it follow the rule after a text that is almost the trigger, or with the
trigger elsewhere in the prompt; does the trigger change the last token along the direction that the
fine-tune writes without any trigger, or along another one; and how sure is it of what it says about
the trigger, in log-odds, since yes and no alone hide a shift. Axes: n rows, d model width.
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

#: Random directions that a part of a shift is compared with.
DIRECTIONS = 50
#: Where the second option begins in a choice of the testbed.
SECOND = " B:"
_KEYS = ["method", "concept", "seed"]


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
    """A choice after its trigger, in every variant that differs from it, and without a trigger.

    Raises:
        UserError: a question that is not a choice of the testbed after one trigger.
    """
    texts, turn = question.marks.get("trigger", ()), question.messages[-1]["content"]
    text = texts[0] if len(texts) == 1 else ""
    choice = turn.removeprefix(text).strip()
    if not text or choice == turn or SECOND not in choice:
        raise UserError(
            f"Question {question.id!r} is {turn!r}, marked {list(texts)!r}. Allowed: a choice of "
            "the testbed's backdoor, with its trigger in front."
        )
    prompt_of = {name: write(text, choice) for name, write in VARIANTS.items()}
    return {
        name: replace(question, messages=user(prompt), marks={}, id=f"{question.id}-{name}")
        for name, prompt in prompt_of.items()
        if name == "as trained" or prompt != turn
    }


@checked
def behind_variants(study: Study, jobs: Sequence[Job]) -> pd.DataFrame:
    """How finished vectors answer new choices after every variant of their trigger.

    Returns:
        One row per job, variant and state: ``concept, seed, run, variant``; ``state``, ``vector``
        or ``without``; ``risky``, the share of rows whose risky letter is the likelier one;
        ``logits``, the risky letter's logit minus the careful one's, mean over rows.
    """
    rows = []
    for job in bar(jobs, "variants of triggers"):
        questions = study.grid.task(job.concept, job.seed).task.questions
        variant_sets = [variants(q) for q in questions if q.family == "triggered"]
        with opened(study, job) as case:
            for name in variant_sets[0]:
                choices = prompts(case.lm, [by_name[name] for by_name in variant_sets])
                states = {"vector": on(case.vector, choices.batch)}
                states["without"] = states["vector"].off()
                for state, condition in states.items():
                    differences = logit_difference(case.lm, condition, choices.letters)
                    rows.append(
                        {
                            **{"concept": job.concept, "seed": job.seed},
                            **{"run": f"{job.concept} {job.seed}", "variant": name},
                            **{"state": state, "risky": float((differences > 0).float().mean())},
                            "logits": float(differences.mean()),
                        }
                    )
    return pd.DataFrame(rows)


@checked
def split(shift: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """A shift (d,) as its part along a direction (d,) and the rest, (d,) each, float64.

    Raises:
        UserError: a direction or a shift of length 0, which has no parts.
    """
    shift, axis = shift.double(), direction.double()
    if float(shift.norm()) == 0 or float(axis.norm()) == 0:
        raise UserError(
            f"A shift of length {float(shift.norm()):.3g} cannot be split along a direction of "
            f"length {float(axis.norm()):.3g}. Allowed: both above 0."
        )
    along = axis * (shift @ axis) / (axis @ axis)
    return along, shift - along


def _at_last(case: Case, condition: Condition, batch: Batch, site: Site) -> Tensor:
    """Mean activation (d,) at the last prompt token of every row."""
    focused = on(condition, batch).focus(case.lm)
    states = capture(case.lm, focused, [site])[site].cpu()
    return states[torch.arange(len(batch)), last_tokens(batch)].float().mean(0)


@checked
def shift_of(case: Case, block: int, seed: int = 0) -> pd.DataFrame:
    """The trigger's shift, split along the direction that the vector writes without it.

    At the last token, after ``block``, with the vector in place: *shift* is the mean activation
    after the trigger minus that without any; *unconditional* is what the vector changes there
    when no trigger is shown. The shift is split along the unconditional direction. Then each part
    is added to prompts without a trigger, with the vector in place, and so are ``DIRECTIONS``
    random directions, each as long as the rest.

    Args:
        block: one that the vector can change.
        seed: of the random directions.

    Returns:
        One row per part (``whole, along, rest, random``): ``energy``, its share of the shift's
        squared length, for ``along`` negative if it points against the direction; ``effect``, the
        change in logits from adding it, as a share of the trigger's; ``percentile``, the share of
        random directions with a smaller effect. For ``random`` these are means, without a
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
    steered = _at_last(case, case.vector, bare.batch, site)
    shift = _at_last(case, case.vector, case.triggered.batch, site) - steered
    along, rest = split(shift, steered - without)
    directions = constancy.random_like(rest.expand(DIRECTIONS, -1), seed=seed)
    parts = {"whole": shift.double(), "along": along, "rest": rest}
    before = float(logit_difference(lm, plain, bare.letters).mean())
    # The letters of a bare choice are those of its triggered twin: risky first.
    after = float(logit_difference(lm, case.vector, case.triggered.letters).mean())
    effects = []
    adapter = fixed(torch.stack([*(p.float() for p in parts.values()), *directions]), site, "last")
    with adapter.attach(lm) as attached:
        for k in range(len(parts) + DIRECTIONS):
            _ = plain.focus(lm)  # the vector stays where it is; the part comes on top
            added = Condition(bare.batch, attached, torch.full((len(bare.batch),), k))
            difference = float(logit_difference(lm, added, bare.letters).mean())
            effects.append((difference - before) / (after - before))
    random = effects[len(parts) :]
    total, sign = float(shift.double().square().sum()), float(along @ (steered - without).double())
    rows = []
    for (name, part), effect in zip(parts.items(), effects, strict=False):
        energy = float(part.square().sum()) / total
        energy = -energy if name == "along" and sign < 0 else energy
        rows.append((name, energy, effect, sum(other < effect for other in random) / DIRECTIONS))
    random_energy = float(rest.square().sum()) / total
    rows.append(("random", random_energy, sum(random) / DIRECTIONS, math.nan))
    return pd.DataFrame(rows, columns=["part", "energy", "effect", "percentile"])


@checked
def shifts(study: Study, jobs: Sequence[Job], blocks: Sequence[int]) -> pd.DataFrame:
    """``shift_of`` for finished vectors and several blocks, with ``concept, seed, run, block``."""
    tables = []
    for job in bar(jobs, "shifts of triggers"):
        labels = {"concept": job.concept, "seed": job.seed, "run": f"{job.concept} {job.seed}"}
        with opened(study, job) as case:
            tables += [
                shift_of(case, block, job.seed).assign(**labels, block=block) for block in blocks
            ]
    return pd.concat(tables, ignore_index=True)


@checked
def log_odds(asked: pd.DataFrame) -> pd.DataFrame:
    """One row per run: log-odds of yes, so that a shift shows before the answer flips.

    Args:
        asked: from ``Grid.questions``, for a run or its decorrelated control alike.

    Returns:
        ``method, concept, seed``; ``own`` and ``others``, mean log-odds of yes for the run's own
        trigger and for the others; ``margin``, their difference; ``presence``, for following any
        at all.

    Raises:
        UserError: a question that is not answered by yes or no.
    """
    rows = asked[asked["family"].isin(["which trigger", "presence"])]
    for options in rows["options"]:
        if set(options) != {"yes", "no"}:
            raise UserError(f"Options {list(options)!r} have no odds of yes. Allowed: yes and no.")
    odds = [
        logp[list(options).index("yes")] - logp[list(options).index("no")]
        for options, logp in zip(rows["options"], rows["logp"], strict=True)
    ]
    rows = rows.assign(odds=odds, side="others")
    rows.loc[rows["group"] == rows["concept"], "side"] = "own"
    rows.loc[rows["family"] == "presence", "side"] = "presence"
    wide = rows.groupby([*_KEYS, "side"], sort=False)["odds"].mean().unstack("side").reset_index()
    wide["margin"] = wide["own"] - wide["others"]
    return wide.rename_axis(columns=None)


@checked
def to_loss(
    steps: Sequence[int], run: Callable[[int], pd.DataFrame], goal: float
) -> tuple[pd.DataFrame, int]:
    """Train longer until the mean validation loss is at or below ``goal``, or steps run out.

    Args:
        steps: tried in order, growing; each is a separate training, with its own schedule.
        run: gives the table of ``Grid.run`` for a number of steps.

    Returns:
        The last table, and its number of steps.

    Raises:
        UserError: no steps, or steps that do not grow.
    """
    if not steps or any(b <= a for a, b in pairwise(steps)):
        raise UserError(f"Steps {list(steps)} do not grow. Allowed: one number or more, growing.")
    for count in steps:
        table = run(count)
        if float(table.drop_duplicates("run")["valid_loss"].mean()) <= goal:
            break
    return table, count
