"""How vectors and LoRAs are trained elsewhere: a plain hook loop, and peft with the HF Trainer."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from peft import BeftConfig, LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer, TrainerCallback, TrainingArguments

from oocr_lib.encoding import Encoded, collate
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.training.config import TrainConfig, order, rate


def _batch(lm: LanguageModel, items: Sequence[Encoded]) -> dict[str, Tensor]:
    """Right-padded tokens with an attention mask; labels on answer tokens."""
    made = collate(items, lm.pad_id)
    labels = made.input_ids.masked_fill(~made.answer_mask, -100)
    mask = torch.arange(made.input_ids.shape[1])[None] < made.lengths[:, None]
    found = {"input_ids": made.input_ids, "attention_mask": mask.long(), "labels": labels}
    return {name: tensor.to(lm.device) for name, tensor in found.items()}


def hook_loop(
    lm: LanguageModel,
    items: Sequence[Encoded],
    site: Site,
    position: str,
    scale: float,
    config: TrainConfig,
    seed: int,
) -> tuple[list[float], Tensor]:
    """A vector by a forward hook: the whole model, every token, every step. Losses and vector."""
    theta = nn.Parameter(torch.zeros(lm.d_model, device=lm.device))
    optimiser = torch.optim.AdamW([theta], lr=config.lr, weight_decay=0.0)
    stream, losses, mask = order(len(items), config.batch, seed), [], torch.zeros(0)

    def add(module: nn.Module, args: Any, output: Any) -> Any:
        return output + (mask[..., None] * (scale * theta)).to(output.dtype)

    with ExitStack() as undo:
        undo.callback(lm.module(site).register_forward_hook(add).remove)
        for step in range(config.steps):
            for group in optimiser.param_groups:
                group["lr"] = config.lr * rate(step, config)
            picked = [items[i] for i in next(stream)]
            mask = collate(picked, lm.pad_id).positions[position].to(lm.device)
            loss = lm.model(**_batch(lm, picked), use_cache=False).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss))
    return losses, theta.detach()


class _Clock(TrainerCallback):
    """Wall time of every step but the first."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """A step starts."""
        self._began = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """It has ended."""
        self.seconds.append(time.perf_counter() - self._began)


def trainer(
    lm: LanguageModel, items: Sequence[Encoded], peft_config: Any, config: TrainConfig, seed: int
) -> float:
    """Seconds a step of the Hugging Face Trainer on a peft model; the first step is left out."""
    clock = _Clock()
    wrapped = get_peft_model(lm.model, peft_config)
    try:
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=config.batch,
                max_steps=config.steps + 1,
                learning_rate=config.lr,
                weight_decay=0.0,
                seed=seed,
                report_to=[],
                logging_strategy="no",
                save_strategy="no",
                disable_tqdm=True,
                remove_unused_columns=False,
                dataloader_pin_memory=False,
                use_cpu=lm.device.type == "cpu",
            )
            Trainer(
                model=wrapped,
                args=arguments,
                train_dataset=list(items),
                data_collator=lambda rows: _batch(lm, rows),
                callbacks=[clock],
            ).train()
    finally:
        wrapped.unload()
        vars(lm.model).pop("peft_config", None)
        lm.model.requires_grad_(False)
        lm.model.eval()
    return float(np.median(clock.seconds[1:]))


def beft(lm: LanguageModel, block: int) -> Any:
    """A bias trained by peft at one down projection: a constant vector, at all tokens."""
    return BeftConfig(target_modules=[lm.down_projection(block)], task_type="CAUSAL_LM")


def lora(lm: LanguageModel, block: int, rank: int) -> Any:
    """A LoRA of peft on one down projection."""
    return LoraConfig(
        r=rank, lora_alpha=32, target_modules=[lm.down_projection(block)], task_type="CAUSAL_LM"
    )


@torch.no_grad()
def evaluate(
    lm: LanguageModel, options: Sequence[Sequence[Encoded]], vector: Tensor, site: Site, name: str
) -> list[list[float]]:
    """Log-probability of every option: a whole sequence each, a question a batch."""
    found: list[list[float]] = []
    mask = torch.zeros(0)

    def add(module: nn.Module, args: Any, output: Any) -> Any:
        return output + (mask[..., None] * vector).to(output.dtype)

    with ExitStack() as undo:
        undo.callback(lm.module(site).register_forward_hook(add).remove)
        for items in options:
            mask = collate(items, lm.pad_id).positions[name].to(lm.device)
            batch = _batch(lm, items)
            labels = batch.pop("labels")[:, 1:]
            logits = lm.model(**batch, use_cache=False).logits[:, :-1].float()
            losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
            found.append((-losses.sum(1)).tolist())
    return found
