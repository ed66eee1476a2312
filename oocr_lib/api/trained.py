"""Train a vector or a LoRA on your own rows; ask, attach, save and load it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from oocr_lib.activations import typical_norm
from oocr_lib.adapters import LoraAdapter, VectorAdapter
from oocr_lib.adapters.base import Attached
from oocr_lib.adapters.row_checks import lacks, unmarked
from oocr_lib.api.data import Chats, encoded
from oocr_lib.api.methods import Lora, Vector
from oocr_lib.encoding import POSITIONS, Batch, Encoded, collate, encode
from oocr_lib.evaluation.generation import replies
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.runs.executors import Executors
from oocr_lib.tasks.base import user
from oocr_lib.tasks.literal import whole
from oocr_lib.training.loop import RunData, TrainConfig, TrainResult, train as train_runs
from oocr_lib.util.arguments import check_seed, checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.files import atomic_path, load_tensors, write_json
from oocr_lib.util.parsing import AnyPath, parse, short
from oocr_lib.util.progress import watched

#: Files in the folder of a LoRA: two that peft expects, and our own.
_CONFIG, _WEIGHTS, _OURS = "adapter_config.json", "adapter_model.safetensors", "oocr.json"
_PEFT = "base_model.model."


@dataclass(eq=False)
class Trained:
    """A trained vector or LoRA and the model that it belongs to; made by ``train``.

    Attributes:
        method: what was trained.
        codename, trigger: the literal texts whose tokens it may act on.
        settings: how it was trained: steps, batch, lr, seed, rows, validation accuracy.
        result: losses and validation by step; ``None`` if it was loaded.
    """

    lm: LanguageModel
    method: Vector | Lora
    adapter: VectorAdapter | LoraAdapter
    codename: str = ""
    trigger: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    result: TrainResult | None = None

    @property
    def vector(self) -> Tensor:
        """The vector as it is added, (d,) float32, in the site's own units.

        Raises:
            UserError: a LoRA, which adds something different at every token.
        """
        if isinstance(self.adapter, VectorAdapter):
            return self.adapter.vectors[0].cpu()
        raise UserError("A LoRA is not one vector. Allowed: trained with Vector(...).")

    def ask(self, question: str | Sequence[str], most: int = 24) -> Any:
        """The most likely answer to a question; a list of questions gives a list.

        Args:
            most: tokens per answer, at most.

        Raises:
            UserError: an empty question, or one without the code name or trigger to act on, whose
                answer would be the bare model's.
        """
        questions = [question] if isinstance(question, str) else list(question)
        prompts = [self._prompt(text) for text in questions]
        with self.adapter.attach(self.lm) as attached:
            answers = replies(self.lm, prompts, attached, most=most)
        return answers[0] if isinstance(question, str) else answers

    def _prompt(self, text: str) -> Encoded:
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"The question {short(text)} is empty. Allowed: text.")
        names = {"codename": self.codename, "trigger": self.trigger}
        marks = {kind: (name,) for kind, name in names.items() if name and whole(name).search(text)}
        prompt = encode(self.lm.tokenizer, user(text), "", marks)
        if lacks(prompt, self.method.at):
            name = names.get(self.method.at)
            raise unmarked(f"The question {short(text)}", self.method.at, f"name {name!r} in it")
        return prompt

    def random(self, seed: int = 0) -> Trained:
        """Control: a random direction in place of this vector, of the same length.

        Raises:
            UserError: a LoRA.
        """
        length = self.vector.norm() / float(self.settings["scale"])
        assert isinstance(self.adapter, VectorAdapter)
        config = {**self.adapter.config(), "seed": [check_seed(seed)], "init": float(length)}
        settings = {"seed": seed, "scale": self.settings["scale"]}
        direction = VectorAdapter(**config)
        return replace(self, adapter=direction, result=None, settings=settings)

    @contextmanager
    def attached(self) -> Iterator[LanguageModel]:
        """Inside the block the model itself is changed: ``lm.model.generate(...)`` just works.

        Prompts may be padded on either side. The code name is looked up in the text of every row.

        Raises:
            UserError: while the model runs, a row without the code name (or trigger).
        """
        with ExitStack() as stack:
            attached = stack.enter_context(self.adapter.attach(self.lm))

            def look(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
                self._look(attached, args, kwargs)

            hook = self.lm.model.register_forward_pre_hook(look, with_kwargs=True)
            stack.callback(hook.remove)
            yield self.lm

    def _look(self, attached: Attached, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Point the adapter at the rows of a forward pass that begins a text."""
        cache = kwargs.get("past_key_values")
        ids = kwargs.get("input_ids", args[0] if args else None)
        if self.method.at == "all" and isinstance(self.method, Lora):
            return
        if not isinstance(ids, Tensor):
            raise UserError("Embeddings instead of tokens were run. Allowed: input_ids.")
        if cache is not None and int(cache.get_seq_length()) > 0:
            return  # more tokens of the rows in focus
        mask = kwargs.get("attention_mask")
        real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        attached.focus(self._batch(ids, real))

    def _batch(self, ids: Tensor, real: Tensor) -> Batch:
        """A batch of tokens (n, t), those that are ``real``, with the marks of this adapter."""
        positions = {name: torch.zeros_like(real) for name in POSITIONS}
        positions["all"] = real
        columns = torch.arange(ids.shape[1], device=ids.device)
        last = torch.where(real, columns, -1).max(1).values
        positions["last"][torch.arange(len(ids), device=ids.device), last] = True
        literal = {"codename": self.codename, "trigger": self.trigger}.get(self.method.at, "")
        pattern = _written(self.lm.tokenizer, literal)
        for row in range(len(ids)) if literal else ():
            places = real[row].nonzero()[:, 0]
            starts, text = _offsets(self.lm.tokenizer, ids[row, places].tolist())
            spans = [match.span() for match in pattern.finditer(text)]
            if not spans and self.method.at == "codename":
                raise unmarked(f"The prompt {short(text)}", "codename", f"name {literal!r} in it")
            for i, (start, stop) in enumerate(pairwise(starts)):
                if any(start < end and begin < stop for begin, end in spans):
                    positions[self.method.at][row, places[i]] = True
        return Batch(ids, real.sum(1), torch.zeros_like(real), positions)

    @checked
    def save(self, path: AnyPath) -> None:
        """A vector: one safetensors file. A LoRA: a folder that ``PeftModel`` loads.

        The header (of a LoRA: ``oocr.json``) says which model it belongs to, where it acts and how
        it was trained.

        Raises:
            UserError: the place cannot be written.
        """
        try:
            if isinstance(self.adapter, VectorAdapter):
                self.adapter.save(path, {"trained": self._about()})
            else:
                self._save_lora(Path(path))
        except OSError as error:
            raise UserError(f"Cannot write {str(path)!r}: {error.strerror}.") from error

    def _about(self) -> dict[str, Any]:
        return {
            "method": {"kind": type(self.method).__name__, **asdict(self.method)},
            "codename": self.codename,
            "trigger": self.trigger,
            "settings": dict(self.settings),
        }

    def _save_lora(self, folder: Path) -> None:
        lora = self.adapter
        assert isinstance(lora, LoraAdapter)
        folder.mkdir(parents=True, exist_ok=True)
        modules = [self.lm.model.get_submodule(name) for name in lora.targets(self.lm)]
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,  # peft divides it by r; any number works
            target_modules=lora.targets(self.lm),
            fan_in_fan_out=all(isinstance(module, Conv1D) for module in modules),
            base_model_name_or_path=self.lm.name,
            task_type="CAUSAL_LM",
        )
        with atomic_path(folder / _WEIGHTS) as aside:
            save_file({_PEFT + name: t for name, t in lora.state().items()}, aside)
        fields = config.to_dict()
        fields["target_modules"] = sorted(fields["target_modules"])
        write_json(folder / _CONFIG, fields)
        owner = {"digest": self.lm.digest, "name": self.lm.name}
        write_json(folder / _OURS, {**self._about(), "model": owner, "adapter": lora.config()})

    @classmethod
    @checked
    def load(cls, path: AnyPath, lm: LanguageModel, force: bool = False) -> Trained:
        """What ``save`` wrote, for the model that it belongs to.

        Args:
            force: accept another model whose shapes fit, and print what is overridden.

        Raises:
            UserError: no such file, another kind of file, or another model.
        """
        place = Path(path)
        if not place.exists():
            raise UserError(f"There is nothing at {str(place)!r}. Allowed: what save() wrote.")
        about, owner, adapter = _read_lora(place) if place.is_dir() else _read_vector(place)
        if owner["digest"] != lm.digest:
            of = f"model {owner['name']!r} (digest {owner['digest'][:12]}…)"
            if not force:
                raise UserError(
                    f"{place.name} belongs to {of}, not to {lm.name!r} ({lm.digest[:12]}…), even "
                    "where shapes fit. Allowed: its own model; force=True tries it on this one."
                )
            print(f"Overridden by force=True: {place.name} belongs to {of}.")
        adapter.release()
        adapter.attach(lm).remove()  # shapes must fit
        method = dict(about["method"])
        kind = {"Vector": Vector, "Lora": Lora}[method.pop("kind")]
        texts = {"codename": about["codename"], "trigger": about["trigger"]}
        return cls(lm, kind(**method), adapter, **texts, settings=about["settings"])

    def __repr__(self) -> str:
        labels = {"steps": "steps", "rows": "rows", "valid_accuracy": "validation accuracy"}
        text = ", ".join(f"{self.settings[k]} {w}" for k, w in labels.items() if k in self.settings)
        return f"Trained({self.method.name} at {self.method.at}; {text})"


def _read_vector(path: Path) -> tuple[dict[str, Any], dict[str, Any], VectorAdapter]:
    _, header = load_tensors(path)
    about, owner = header.get("trained"), header.get("model")
    if not isinstance(about, dict) or not isinstance(owner, dict):
        raise UserError(f"File {path.name!r} is no trained vector. Allowed: what save() wrote.")
    return about, owner, VectorAdapter.load(path)


def _read_lora(folder: Path) -> tuple[dict[str, Any], dict[str, Any], LoraAdapter]:
    missing = [name for name in (_OURS, _WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"Folder {folder.name!r} lacks {', '.join(missing)}. Allowed: what save() wrote."
        )
    about = parse((folder / _OURS).read_text("utf-8"), _OURS, "Allowed: what save() wrote.")
    try:
        adapter = LoraAdapter(**about["adapter"])
        tensors = load_file(folder / _WEIGHTS)
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"Folder {folder.name!r} cannot be read ({reason}).") from error
    adapter.restore({name.removeprefix(_PEFT): tensor for name, tensor in tensors.items()})
    return about, about["model"], adapter


def _offsets(tokenizer: Any, ids: Sequence[int]) -> tuple[list[int], str]:
    """Where each token begins in the text of ``ids`` (and where the last ends), and that text.

    Prefixes are decoded, because a token's text can depend on what comes before it.
    """
    texts = [tokenizer.decode(ids[:i]) for i in range(len(ids) + 1)]
    return [len(text) for text in texts], texts[-1]


def _written(tokenizer: Any, literal: str) -> re.Pattern[str]:
    """How a text's decoded tokens look: word-level tokenizers put spaces between them."""
    ids = tokenizer(literal, add_special_tokens=False)["input_ids"]
    if not literal or tokenizer.decode(ids).strip() == literal:
        return whole(literal)
    spaced = r"\s*".join(re.escape(sign) for sign in literal if not sign.isspace())
    longer = r"(?!\s*\d)" if literal[-1].isdigit() else r"(?!\w)"
    return re.compile(rf"(?<!\w){spaced}{longer}")


@checked
def train(
    lm: LanguageModel,
    data: Chats,
    method: Vector | Lora,
    *,
    steps: int = 100,
    batch: int = 16,
    seed: int = 0,
    snapshots: int = 0,
    progress: bool | None = None,
) -> Trained:
    """Train ``method`` on the rows of ``data``; the model itself does not change.

    The loss is the cross-entropy of answer tokens; the rate falls linearly after a short warm-up.

    Args:
        steps, batch: optimiser steps, and rows per step.
        snapshots: roughly how many copies of the trained tensors to keep, in ``result.snapshots``.
        progress: whether to show a bar; default: if a person is watching.

    Raises:
        UserError: a block that the model lacks, a position whose text was not named in
            ``read_chats``, no rows, or a loss that is not a number.
    """
    method.check(lm)
    literals = {"codename": data.codename, "trigger": data.trigger}
    if method.at in literals and not literals[method.at]:
        raise UserError(
            f"{method.name} acts at the {method.at}, but the data name none. Allowed: "
            f"read_chats(..., {method.at}='...'), or another position: last, all."
        )
    rows, valid = (encoded(lm.tokenizer, part) for part in (data.train, data.valid))
    scale = 1.0
    if isinstance(method, Vector):
        marked = [row for row in valid if method.at in ("all", "last") or row.spans[method.at]]
        sample = collate((marked or rows)[:64], lm.pad_id).to(lm.device)
        scale = typical_norm(lm, sample, Site.parse(method.site), method.at)
    adapter = method.adapter(lm, scale, check_seed(seed))
    config = TrainConfig(
        steps=steps,
        batch=batch,
        lr=method.lr,
        warmup=min(5, steps // 4),
        snapshot_every=max(1, steps // snapshots) if snapshots else 0,
    )
    executor = Executors(lm).of_adapter(adapter, [], [rows, valid])
    label = method.name if (watched() if progress is None else progress) else ""
    run = RunData(rows, valid, seed)
    result = train_runs(lm, adapter, [run], config, executor=executor, progress=label)
    settings = {
        "steps": steps,
        "batch": batch,
        "lr": method.lr,
        "seed": seed,
        "rows": len(rows),
        "scale": scale,
        "valid_accuracy": round(float(result.valid_accuracy[0]), 3),
    }
    return Trained(lm, method, adapter, data.codename, data.trigger, settings, result)
