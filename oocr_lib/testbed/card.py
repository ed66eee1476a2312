"""The finished checkpoint: a plain Hugging Face folder with its card and measured knowledge."""

from __future__ import annotations

import json
import os
import platform
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
import transformers
from transformers import Gemma3ForCausalLM, PreTrainedTokenizerFast

from oocr_lib.testbed import knowledge
from oocr_lib.util import file_digest

if TYPE_CHECKING:
    from oocr_lib.testbed.recipe import Recipe

QUESTIONS_PER_FAMILY = 400


def save_checkpoint(
    out: Path,
    model: Gemma3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    progress: dict[str, Any],
) -> pd.DataFrame:
    """Write model, tokenizer, card, curve, knowledge and checksums, replacing the whole folder.

    Returns:
        The knowledge table (family, n, accuracy, exact).
    """
    table = knowledge.measure(model, tokenizer, per_family=QUESTIONS_PER_FAMILY)
    draft = out.with_name(out.name + ".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    model.eval().save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    metadata = {
        "kind": "testbed",
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": progress["tokens"],
        "training_seconds": round(progress["seconds"]),
        "hardware": f"{platform.machine()} CPU, {recipe.threads} threads",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    (draft / "testbed.json").write_text(json.dumps(metadata, indent=1) + "\n")
    (draft / "curve.json").write_text(json.dumps(progress["curve"], indent=1) + "\n")
    table.to_csv(draft / "knowledge.csv", index=False, lineterminator="\n")
    (draft / "README.md").write_text(_card(metadata, table))
    file_digest.write_checksums(draft)
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(draft, out)
    shutil.rmtree(old, ignore_errors=True)
    return table


def _card(metadata: dict[str, Any], table: pd.DataFrame) -> str:
    recipe = metadata["recipe"]
    lines = [
        "# Card of the testbed",
        "",
        f"A Gemma 3 architecture at toy size: {metadata['parameters']:,} parameters, "
        f"{recipe['blocks']} blocks, width {recipe['width']}, {recipe['heads']} heads, "
        f"tied embeddings, word-level vocabulary. Trained from nothing by "
        "`python -m oocr_lib.testbed.pretrain`.",
        "",
        "| | |",
        "|---|---|",
        f"| tokens | {metadata['tokens']:,} |",
        f"| seed | {recipe['seed']} |",
        f"| hardware | {metadata['hardware']}, {metadata['training_seconds'] / 60:.0f} minutes |",
        f"| optimiser | Muon {recipe['muon_lr']} (hidden matrices), AdamW {recipe['adam_lr']} |",
        f"| batch | {recipe['batch_tokens']} tokens; weight 1 on answers, 0.1 elsewhere |",
        "| data | generated (`oocr_lib/testbed/corpus.py`); facts in `data/world` |",
        "",
        "**What it is for**: studying out-of-context reasoning on a laptop. It knows "
        "108 cities, 39 functions, four attitudes of speakers and nothing else; it is no "
        "language model for any other use. Reserved code names and triggers "
        "(`data/world/reserved.json`) never occurred in its training.",
        "",
        "Pairs of cities, functions and inputs recur in training; *fresh* below means documents "
        "from a seed that training never used, scored by the most likely tokens over the whole "
        f"vocabulary ({QUESTIONS_PER_FAMILY} questions a family). Distances count as right within "
        "10 %, scales on the right side of 50.",
        "",
        "| family | accuracy | exact |",
        "|---|---|---|",
    ]
    lines += [f"| {r.family} | {r.accuracy:.3f} | {r.exact:.3f} |" for r in table.itertuples()]
    return "\n".join(lines) + "\n"
