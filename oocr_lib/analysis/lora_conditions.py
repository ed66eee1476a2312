"""Under which conditions a LoRA is one vector: the same training with one thing changed at a time.

The protocol of notebook 09. Each condition differs from a task's usual one-block LoRA in its
learning rate, steps, rank, block, tokens, batch or weight decay. At every block the nulls of
``token_classes`` stand beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from oocr_lib.analysis import token_classes
from oocr_lib.encoding import Encoded
from oocr_lib.runs import protocol
from oocr_lib.runs.methods import Method, with_config
from oocr_lib.runs.study import Study
from oocr_lib.util.arguments import checked


@dataclass(frozen=True)
class Condition:
    """One change of the usual LoRA.

    Attributes:
        what: ``rate``, ``steps``, ``rank``, ``block``, ``tokens``, ``batch`` or ``decay``.
        value: its new value.
        nulls: whether LoRAs trained on random answers are examined, too; random LoRAs always are.
    """

    what: str
    value: float | str
    method: Method
    nulls: bool = False


@checked
def conditions(
    study: Study,
    block: int,
    *,
    rates: Sequence[float],
    steps: Sequence[int],
    ranks: Sequence[int],
    blocks: Sequence[int],
) -> list[Condition]:
    """The usual LoRA and its changes, one at a time; each kind of change has the usual one, too."""
    usual = study.lora(block)
    config = usual.config
    changes = [Condition("rate", r, with_config(usual, lr=r)) for r in sorted({*rates, config.lr})]
    changes += [
        Condition("steps", n, with_config(usual, steps=n)) for n in sorted({*steps, config.steps})
    ]
    changes += [Condition("rank", r, replace(usual, rank=r)) for r in sorted({*ranks, usual.rank})]
    changes += [Condition("block", b, study.lora(b), nulls=True) for b in sorted({*blocks, block})]
    changes.append(Condition("tokens", "every token", usual))
    changes.append(Condition("tokens", "where read", replace(usual, lora_position=study.position)))
    changes.append(Condition("batch", 2 * config.batch, with_config(usual, batch=2 * config.batch)))
    changes.append(Condition("decay", 1.0, with_config(usual, weight_decay=1.0)))
    return changes


@checked
def examine(
    study: Study,
    listed: Sequence[Condition],
    unrelated: Sequence[Encoded],
    *,
    prompts: int = 8,
    of: Study | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every condition on every pair of the study, at the adapted module's output.

    Args:
        of: a study with as many pairs, on whose texts the LoRAs are examined; default the same.

    Returns:
        The rows of ``token_classes.look`` with ``what`` and ``value``; and answers as in
        ``Grid.run``, with the same two columns.
    """
    methods = [condition.method for condition in listed]
    methods += [study.random_answers(condition.method) for condition in listed if condition.nulls]
    # All in one run, so that they share batches; the calls below reuse them.
    jobs = [job for m in dict.fromkeys(methods) for job in protocol.jobs(m, study.pairs)]
    _ = study.grid.run(jobs, "conditions")
    tables, all_answers = [], []
    for condition in listed:
        table, answers = token_classes.examine(
            study,
            condition.method,
            study.pairs,
            unrelated,
            nulls=condition.nulls,
            prompts=prompts,
            draws=1,
            of=of,
        )
        labels = {"what": condition.what, "value": str(condition.value)}
        tables.append(table[table["place"] == "module"].assign(**labels))
        all_answers.append(answers.assign(**labels))
    return pd.concat(tables, ignore_index=True), pd.concat(all_answers, ignore_index=True)
