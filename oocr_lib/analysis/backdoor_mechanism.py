"""How an unconditional vector follows a conditional rule, run by run: attention and patching.

The protocol of the second half of notebook 05. The paper (section 5.4) proposes, from preliminary
patching, that the vector makes the last token attend to the trigger's tokens, whose values happen
to point towards risk. Each half of that is measured here, beside controls: other tokens, other
triggers, random vectors. Axes: n rows, t tokens, d model width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from oocr_lib.adapters import VectorAdapter
from oocr_lib.analysis.attention import attention_table
from oocr_lib.analysis.attribution import attribution, change, value_direction
from oocr_lib.analysis.conditions import Condition, logit_difference, other_tokens, with_random
from oocr_lib.analysis.exchange import UNITS
from oocr_lib.analysis.patching import patch_patterns, patch_values
from oocr_lib.encoding import Batch, Encoded, collate, encode_question
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.runs.grid import Job
from oocr_lib.runs.study import Study
from oocr_lib.tasks.base import Question
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.progress import bar

#: Random vectors as long as the trained one.
RANDOM = 3


@dataclass(frozen=True, eq=False)
class Prompts:
    """Held-out choices as tokens.

    Attributes:
        batch: n rows that end with the prompt.
        letters: (n, 2) int64, the answer after the trigger and the other one.
    """

    batch: Batch
    letters: Tensor


@dataclass(frozen=True, eq=False)
class Case:
    """One trained vector in place, with its prompts.

    Attributes:
        site: where the vector is added, at the last token.
        triggered: prompts with its trigger; others: with another trigger; bare: without any.
        vector, without, random: conditions on ``triggered``: with the vector, without it, and with
            random ones as long. ``on`` applies one to other prompts.
    """

    lm: LanguageModel
    site: Site
    triggered: Prompts
    others: Prompts
    bare: Prompts
    vector: Condition
    without: Condition
    random: tuple[Condition, ...]

    @property
    def later(self) -> range:
        """Blocks whose attention the vector can change."""
        return range(self.site.block + 1, self.lm.n_blocks)


@contextmanager
def opened(study: Study, job: Job) -> Iterator[Case]:
    """A finished vector run, attached to the model.

    Raises:
        UserError: a run of something else, a vector that is not at the last token, or in the last
            block, after which there is no attention.
    """
    adapter, lm = study.grid.trained([job]), study.grid.lm
    if not isinstance(adapter, VectorAdapter) or adapter.position != "last":
        raise UserError(
            f"Job {job.method.name!r} is no vector at the last token. Allowed: those of the "
            "backdoor notebook."
        )
    site = adapter.sites[0]
    if site.block + 1 >= lm.n_blocks:
        raise UserError(f"After {site} there is no attention. Allowed: a block before the last.")
    questions = study.grid.task(job.concept, job.seed).task.questions
    triggered = prompts(lm, [q for q in questions if q.family == "triggered"])
    rest = [q for q in questions if q.family == "untriggered"]
    others = prompts(lm, [q for q in rest if q.marks.get("trigger")])
    bare = prompts(lm, [q for q in rest if not q.marks.get("trigger")])
    combined = with_random(adapter.vectors[0].cpu(), site, count=RANDOM, seed=job.seed)
    with combined.attach(lm) as attached:
        n = len(triggered.batch)
        vector = Condition(triggered.batch, attached, torch.zeros(n, dtype=torch.int64))
        random = tuple(replace(vector, index=torch.full((n,), 1 + i)) for i in range(RANDOM))
        yield Case(lm, site, triggered, others, bare, vector, vector.off(), random)


@checked
def prompts(lm: LanguageModel, questions: Sequence[Question]) -> Prompts:
    """Choices as tokens; the first letter is the answer after the trigger.

    Raises:
        UserError: no question, or an option that is not one token.
    """
    items, letters = list[Encoded](), []
    for question in questions:
        first = question.truth
        second = next(option for option in question.options if option != first)
        if question.family == "untriggered":
            first, second = second, first
        encoded = [encode_question(lm.tokenizer, question, option) for option in (first, second)]
        tails = [item.ids[item.answer[0] :] for item in encoded]
        if any(len(tail) != 1 for tail in tails):
            raise UserError(f"Options {question.options} are not single tokens. Allowed: letters.")
        items.append(encode_question(lm.tokenizer, question, ""))
        letters.append([tail[0] for tail in tails])
    return Prompts(collate(items, lm.pad_id), torch.tensor(letters))


@checked
def on(condition: Condition, batch: Batch) -> Condition:
    """The condition on other rows."""
    n, index = len(batch), condition.index
    return replace(condition, batch=batch, index=None if index is None else index[:1].repeat(n))


@checked
def answers(case: Case) -> pd.DataFrame:
    """Logit of the answer after the trigger minus that of the other one, by prompts and condition.

    Returns:
        Columns ``prompts`` (triggered, others, bare), ``condition`` (without, vector, random) and
        ``logits``, the mean over rows (and random vectors).
    """
    rows = []
    for name in ("triggered", "others", "bare"):
        choices: Prompts = getattr(case, name)
        conditions = {"without": [case.without], "vector": [case.vector], "random": case.random}
        for condition, members in conditions.items():
            differences = [
                logit_difference(case.lm, on(member, choices.batch), choices.letters)
                for member in members
            ]
            rows.append((name, condition, float(torch.stack(differences).mean())))
    return pd.DataFrame(rows, columns=["prompts", "condition", "logits"])


@checked
def looks(case: Case) -> pd.DataFrame:
    """Attention from the last token to the trigger, to other tokens, and to other triggers.

    Returns:
        As ``attention_table``, for the blocks that the vector can change; ``condition`` is without,
        vector or random (mean over the random vectors); ``what`` is trigger, other tokens or other
        trigger.
    """
    triggered, others = case.triggered.batch, case.others.batch
    conditions = {"without": case.without, "vector": case.vector}
    conditions |= {f"random {i}": c for i, c in enumerate(case.random)}
    tables = []
    for what, batch, marks in (
        ("trigger", triggered, triggered.positions["trigger"]),
        ("other tokens", triggered, other_tokens(triggered, triggered.positions["trigger"])),
        ("other trigger", others, others.positions["trigger"]),
    ):
        on_batch = {name: on(c, batch) for name, c in conditions.items()}
        tables.append(attention_table(case.lm, on_batch, {what: marks}))
    table = pd.concat(tables).drop(columns="values")
    table["condition"] = table["condition"].str.split().str[0]
    table = table[table["block"].isin(case.later)]
    return table.groupby(["condition", "what", "block", "head"], as_index=False, sort=False).mean()


@checked
def swapped(case: Case) -> Batch:
    """The triggered prompts with the tokens of another trigger in the trigger's place.

    Another trigger's tokens are repeated or cut to the same number, so that everything else stays
    in place. Triggers are taken in turn from ``case.others``.
    """
    triggered, others = case.triggered.batch, case.others.batch
    ids = triggered.input_ids.clone()
    for row in range(len(triggered)):
        places = triggered.positions["trigger"][row].nonzero()[:, 0]
        source = row % len(others)
        tokens = others.input_ids[source][others.positions["trigger"][source]]
        ids[row, places] = tokens.repeat(-(-len(places) // len(tokens)))[: len(places)]
    return replace(triggered, input_ids=ids)


@checked
def patched(case: Case, by: Sequence[str] = UNITS) -> pd.DataFrame:
    """How much of the vector's effect is lost when parts of the last token's attention are undone.

    The effect is the change of the answer's logit difference that the vector causes on triggered
    prompts. ``pattern``: the last token attends where it does without the vector. ``trigger``,
    ``elsewhere``, ``other tokens``: at the trigger's tokens, at all other tokens before the last,
    or at as many random others, it reads the values of a prompt with another trigger.
    ``pattern alone`` is the reverse: there is no vector, but the last token attends where it does
    with it; the share of the effect that this causes.

    Args:
        by: as in ``patching``; blocks and heads for ``pattern`` and ``trigger`` only.

    Returns:
        Columns ``what, block, head`` (missing for all at once); ``share``: 1 for all of the effect,
        0 for none, more than 1 where the answer is reversed; ``of_rule``: the same change as a
        share of what the trigger does under the vector (triggered minus bare prompts).
    """
    lm, letters, batch = case.lm, case.triggered.letters, case.triggered.batch
    adapted = logit_difference(lm, case.vector, letters).mean()
    total = float(adapted - logit_difference(lm, case.without, letters).mean())
    bare = logit_difference(lm, on(case.vector, case.bare.batch), case.bare.letters).mean()
    trigger, blocks = batch.positions["trigger"], list(case.later)
    rest = {
        "elsewhere": batch.positions["all"] & ~batch.positions["last"] & ~trigger,
        "other tokens": other_tokens(batch, trigger),
    }
    donor = on(case.vector, swapped(case))
    vector, without = case.vector, case.without
    alone = patch_patterns(lm, without, vector, letters, by=("all",), blocks=blocks)
    alone = alone.assign(what="pattern alone", effect=-alone["effect"])
    tables = [
        patch_patterns(lm, vector, without, letters, by=by, blocks=blocks),
        patch_values(lm, vector, letters, {"trigger": trigger}, donor, by=by, blocks=blocks),
        patch_values(lm, vector, letters, rest, donor, by=("all",), blocks=blocks),
        alone,
    ]
    table = pd.concat(tables, ignore_index=True)
    table["share"] = -table["effect"] / total
    table["of_rule"] = -table["effect"] / float(adapted - bare)
    return table[["what", "block", "head", "share", "of_rule"]]


@checked
def written(case: Case) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What writes the vector's effect directly, and what the trigger's values are worth.

    Returns:
        ``attribution.change`` from without to with the vector, on triggered prompts, with each
        part's ``share`` of the change (summing to 1); and ``attribution.value_direction`` with the
        vector, at the trigger and at as many other tokens.
    """
    lm, letters, batch = case.lm, case.triggered.letters, case.triggered.batch
    parts = change(
        attribution(lm, case.vector, letters), attribution(lm, case.without, letters)
    ).drop(columns="values")
    parts["share"] = parts["effect"] / parts["effect"].sum()
    trigger = batch.positions["trigger"]
    marks = {"trigger": trigger, "other tokens": other_tokens(batch, trigger)}
    worth = value_direction(lm, case.vector, letters, marks)
    worth = worth[worth["block"].isin(case.later)]
    return parts, worth.drop(columns=["values", "moved_values"])


@checked
def examine(study: Study, jobs: Sequence[Job]) -> Mapping[str, pd.DataFrame]:
    """Everything above for finished runs; each table has ``concept``, ``seed`` and ``fitted``.

    ``fitted``: whether the run answers 95 % of the held-out choices right with the trigger, and
    95 % without. A run that has not learned its rule has no mechanism to explain.
    """
    tables: dict[str, list[pd.DataFrame]] = {}
    finished = list(zip(jobs, study.grid.runs(jobs), strict=True))
    for job, run in bar(finished, "looking into vectors"):
        right = [run.results["families"][name]["mc"] for name in ("triggered", "untriggered")]
        labels = {"concept": job.concept, "seed": job.seed, "fitted": min(right) >= 0.95}
        with opened(study, job) as case:
            parts, worth = written(case)
            named = {"answers": answers(case), "attention": looks(case), "patching": patched(case)}
        for name, table in {**named, "attribution": parts, "values": worth}.items():
            tables.setdefault(name, []).append(table.assign(**labels))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
