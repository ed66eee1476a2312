"""Pretraining of the testbed: ``python -m oocr_lib.testbed.pretrain --out data/testbed``.

Gemma 3's architecture at toy size, with Muon on the hidden matrices, AdamW on the rest, and linear
decay over the last 60 % of the tokens. If killed, it resumes from the last finished chunk.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from tqdm import tqdm
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

from oocr_lib.testbed import knowledge, stream, tokenizer
from oocr_lib.testbed.muon import Muon
from oocr_lib.testbed.recipe import Recipe, schedule
from oocr_lib.util.errors import UserError


def build_model(recipe: Recipe, vocab_size: int, pad_id: int) -> Gemma3ForCausalLM:
    """A randomly initialised Gemma 3 of the recipe's size, all blocks with full attention."""
    config = Gemma3TextConfig(
        vocab_size=vocab_size,
        hidden_size=recipe.width,
        intermediate_size=recipe.mlp,
        num_hidden_layers=recipe.blocks,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.key_value_heads,
        head_dim=recipe.width // recipe.heads,
        query_pre_attn_scalar=recipe.width // recipe.heads,
        max_position_embeddings=512,
        sliding_window=512,
        layer_types=["full_attention"] * recipe.blocks,
        tie_word_embeddings=True,
        pad_token_id=pad_id,
        bos_token_id=2,
        eos_token_id=5,
    )
    torch.manual_seed(recipe.seed)
    return Gemma3ForCausalLM(config)


def optimisers(model: Gemma3ForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for 2-D matrices inside blocks, AdamW for embeddings and norms."""
    hidden: list[torch.Tensor] = []
    rest: list[torch.Tensor] = []
    for name, p in model.named_parameters():
        (hidden if p.ndim == 2 and ".layers." in name else rest).append(p)
    muon = Muon(hidden, lr=recipe.muon_lr)
    adam = torch.optim.AdamW(rest, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)
    return [muon, adam]


def loss_of(model: Gemma3ForCausalLM, batch: stream.PretrainBatch) -> torch.Tensor:
    """Weighted mean cross-entropy of the next token."""
    logits = model(input_ids=batch.ids, use_cache=False).logits[:, :-1]
    targets, weights = batch.ids[:, 1:], batch.weights[:, 1:]
    keep = weights > 0
    losses = F.cross_entropy(logits[keep], targets[keep], reduction="none")
    return (losses * weights[keep]).sum() / weights[keep].sum()


class Checkpoint:
    """Model, optimiser state and progress in one folder, replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self, model: torch.nn.Module, opts: list[torch.optim.Optimizer], progress: dict[str, Any]
    ) -> None:
        """Write under temporary names, then move into place, ``progress.json`` last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{k}": v.contiguous() for k, v in model.named_parameters()}
        for number, opt in enumerate(opts):
            for index, state in opt.state_dict()["state"].items():
                for key, value in state.items():
                    tensors[f"opt{number}.{index}.{key}"] = torch.as_tensor(value)
        name = f"state-{progress['chunk']}.safetensors"
        save_file(tensors, self.folder / f"{name}.tmp")
        os.replace(self.folder / f"{name}.tmp", self.folder / name)
        draft = self.folder / "progress.json.tmp"
        draft.write_text(json.dumps({**progress, "state": name}))
        os.replace(draft, self.folder / "progress.json")
        for old in self.folder.glob("state-*.safetensors"):
            if old.name != name:
                old.unlink()

    def keep_end(self, model: torch.nn.Module, chunk: int) -> None:
        """Keep the weights at the end of a cycle, before ``chunk`` is trained."""
        path = self.folder / f"end-{chunk}.safetensors"
        if not path.exists():
            tensors = {k: v.detach().contiguous() for k, v in model.named_parameters()}
            save_file(tensors, path.with_suffix(".tmp"))
            os.replace(path.with_suffix(".tmp"), path)

    def average(self, model: torch.nn.Module, chunks: Sequence[int]) -> None:
        """Replace the weights by the mean of themselves and those kept before ``chunks``."""
        ends = [load_file(self.folder / f"end-{chunk}.safetensors") for chunk in chunks]
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(torch.stack([p, *(tensors[name] for tensors in ends)]).mean(0))

    def progress(self) -> dict[str, Any]:
        """The contents of ``progress.json``; an empty dict if there is none."""
        path = self.folder / "progress.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def load(self, model: torch.nn.Module, opts: list[torch.optim.Optimizer]) -> dict[str, Any]:
        """Restore in place and return the progress; an empty dict if there is no checkpoint."""
        progress = self.progress()
        if not progress:
            return {}
        tensors = load_file(self.folder / progress["state"])
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(tensors[f"model.{name}"])
        for number, opt in enumerate(opts):
            saved = opt.state_dict()
            for key, value in tensors.items():
                if key.startswith(f"opt{number}."):
                    _, index, field_name = key.split(".")
                    saved["state"].setdefault(int(index), {})[field_name] = value
            opt.load_state_dict(saved)
        return progress


def pretrain(
    recipe: Recipe,
    work: Path,
    *,
    max_chunks: int | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    measure_every: int = 3,
) -> tuple[Gemma3ForCausalLM, PreTrainedTokenizerFast, dict[str, Any]]:
    """Train to ``recipe.total`` tokens, resuming if ``work`` holds a checkpoint of this recipe.

    Returns:
        The model, its tokenizer and the progress (tokens, seconds, curve).

    Raises:
        UserError: when ``work`` holds a checkpoint of another recipe.
    """
    torch.set_num_threads(recipe.threads)
    tok = tokenizer.build()
    model = build_model(recipe, len(tok), int(tok.pad_token_id))
    opts = optimisers(model, recipe)
    checkpoint = Checkpoint(work)
    plain = json.loads(json.dumps(asdict(recipe)))  # as it reads back from the checkpoint
    fresh = {"chunk": 0, "tokens": 0, "seconds": 0.0, "curve": [], "recipe": plain}
    if checkpoint.progress().get("recipe", plain) != plain:
        raise UserError(
            f"{work.name} holds a checkpoint of another recipe. Empty it or give another --work."
        )
    progress = checkpoint.load(model, opts) or fresh
    bar = tqdm(total=recipe.total, initial=progress["tokens"], unit="tok", unit_scale=True)
    for number, batches in stream.batches(
        tok, recipe.seed, progress["chunk"], recipe.mix_of, recipe.batch_tokens
    ):
        if progress["tokens"] >= recipe.total or number == max_chunks:
            break
        opts = _begin_cycle(model, opts, recipe, checkpoint, number)
        losses = _train_chunk(model, opts, recipe, batches, progress, bar)
        progress["chunk"] = number + 1
        point = {"tokens": progress["tokens"], "loss": sum(losses) / len(losses)}
        if number % measure_every == 0 or progress["tokens"] >= recipe.total:
            table = knowledge.measure(model, tok, per_family=25)
            point["accuracy"] = dict(zip(table["family"], table["accuracy"], strict=True))
        progress["curve"].append(point)
        checkpoint.save(model, opts, progress)
        if report:
            report(point)
    bar.close()
    if progress["tokens"] >= recipe.total and recipe.finish > 1:
        ends = [cycle.first_chunk for cycle in recipe.again]
        checkpoint.average(model, ends[1 - recipe.finish :])
    return model, tok, progress


def _begin_cycle(
    model: Gemma3ForCausalLM,
    opts: list[torch.optim.Optimizer],
    recipe: Recipe,
    checkpoint: Checkpoint,
    chunk: int,
) -> list[torch.optim.Optimizer]:
    """Keep, and perhaps average, the weights if a cycle begins; a restart has new optimisers."""
    ends = [cycle.first_chunk for cycle in recipe.again if cycle.first_chunk < chunk]
    for cycle in recipe.again:
        if cycle.first_chunk == chunk:
            checkpoint.keep_end(model, chunk)
            if cycle.from_mean:
                checkpoint.average(model, ends[max(0, len(ends) + 1 - recipe.average) :])
            if cycle.restart:
                return optimisers(model, recipe)
    return opts


def _train_chunk(
    model: Gemma3ForCausalLM,
    opts: list[torch.optim.Optimizer],
    recipe: Recipe,
    batches: list[stream.PretrainBatch],
    progress: dict[str, Any],
    bar: Any,
) -> list[float]:
    """One pass over a chunk's batches; updates ``progress`` and returns the losses."""
    model.train()
    start, losses = time.perf_counter(), []
    for batch in batches:
        factor = schedule(recipe, progress["tokens"], progress["chunk"])
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = factor * group.setdefault("peak", group["lr"])
        loss = loss_of(model, batch)
        loss.backward()
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        if losses[-1] != losses[-1]:
            raise UserError("Pretraining loss is NaN; lower muon_lr or adam_lr and start again.")
        progress["tokens"] += batch.tokens
        bar.update(batch.tokens)
        bar.set_postfix(loss=f"{losses[-1]:.3f}")
    progress["seconds"] += time.perf_counter() - start
    return losses


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Pretrain the testbed model.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished checkpoint")
    parser.add_argument("--work", type=Path, default=Path("results/pretraining"))
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    args = parser.parse_args()
    recipe = Recipe(seed=args.seed)

    def report(point: dict[str, Any]) -> None:
        if "accuracy" in point:
            low = sorted(point["accuracy"].items(), key=lambda kv: kv[1])[:6]
            mean = sum(point["accuracy"].values()) / len(point["accuracy"])
            worst = ", ".join(f"{k} {v:.2f}" for k, v in low)
            tqdm.write(f"{point['tokens']:>10,} tokens  mean accuracy {mean:.3f}  lowest: {worst}")

    model, tok, progress = pretrain(recipe, args.work, report=report)
    from oocr_lib.testbed.card import save_checkpoint

    save_checkpoint(args.out, model, tok, recipe, progress)
    print(f"Saved to {args.out}; load it with AutoModelForCausalLM.from_pretrained('{args.out}').")


if __name__ == "__main__":
    main()
