"""Under which conditions a LoRA is one vector: the same training with one thing changed at a time.

The protocol of notebook 09. Each condition differs from a task's usual one-block LoRA in its
learning rate, steps, rank, block, tokens, batch or weight decay. At every block the nulls of
``token_classes`` stand beside it.
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
        value: of what is changed.
        nulls: whether LoRAs trained on random answers are looked at, too; random ones always are.
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
    """The usual LoRA and its changes, one at a time; the usual one stands in every list."""
    usual = study.lora(block)
    config = usual.config
    made = [Condition("rate", r, with_config(usual, lr=r)) for r in sorted({*rates, config.lr})]
    made += [
        Condition("steps", n, with_config(usual, steps=n)) for n in sorted({*steps, config.steps})
    ]
    made += [Condition("rank", r, replace(usual, rank=r)) for r in sorted({*ranks, usual.rank})]
    made += [Condition("block", b, study.lora(b), nulls=True) for b in sorted({*blocks, block})]
    made.append(Condition("tokens", "every token", usual))
    made.append(Condition("tokens", "where read", replace(usual, lora_position=study.position)))
    made.append(Condition("batch", 2 * config.batch, with_config(usual, batch=2 * config.batch)))
    made.append(Condition("decay", 1.0, with_config(usual, weight_decay=1.0)))
    return made


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
        of: a study with as many pairs, whose texts the LoRAs are looked at on; default the same.

    Returns:
        ``token_classes.look``'s rows with ``what`` and ``value``; and answers as ``Grid.run`` has
        them, with the same two columns.
    """
    methods = [one.method for one in listed]
    methods += [study.random_answers(one.method) for one in listed if one.nulls]
    # All at once, so that they share batches; below they are found again.
    every = [job for m in dict.fromkeys(methods) for job in protocol.jobs(m, study.pairs)]
    _ = study.grid.run(every, "conditions")
    seen, told = [], []
    for one in listed:
        table, answers = token_classes.examine(
            study,
            one.method,
            study.pairs,
            unrelated,
            nulls=one.nulls,
            prompts=prompts,
            draws=1,
            of=of,
        )
        named = {"what": one.what, "value": str(one.value)}
        seen.append(table[table["place"] == "module"].assign(**named))
        told.append(answers.assign(**named))
    return pd.concat(seen, ignore_index=True), pd.concat(told, ignore_index=True)
