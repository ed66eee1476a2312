"""What a LoRA adds, token class by token class, beside nulls that could show the same.

The paper (section 4, figure 4) pools all tokens of a training prompt and of unrelated text. A
fine-tune acts through the tokens that are *read*: the code name, or the last token of the prompt.
Here those are kept apart from the others. Three nulls are measured at the same tokens: a LoRA with
random matrices of the trained ones' sizes, a LoRA trained on random answers (format without
concept), and the adapted map's inputs, which may be alike by themselves.

Axes: n rows, t tokens, d model width, m vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from oocr_lib.adapters.lora import LoraAdapter
from oocr_lib.analysis import constancy
from oocr_lib.encoding import Batch, Encoded, collate, encode_question
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site, output_tensor
from oocr_lib.runs import protocol
from oocr_lib.runs.grid import Job, Method
from oocr_lib.runs.study import Study
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.progress import bar

#: Tokens that are compared with each other, in the order of the tables.
CLASSES = ("training", "validation", "questions", "other", "unrelated", "pooled")
#: Where it is measured: at the adapted module's output, and where that reaches the residual stream,
#: after the norm that may follow.
PLACES = ("module", "stream")
_ROWS = 16  # of one forward pass
#: Vectors per class, at most; more add nothing new, and the pairs grow with the square.
MOST = 240


@dataclass(frozen=True, eq=False)
class Texts:
    """The prompts on which a LoRA is examined.

    Attributes:
        training, validation, questions: prompts; the tokens at ``position`` are read.
        unrelated: passages that have nothing to do with the task.
        position: of ``encoding.POSITIONS``, where the answer is read from.
    """

    training: Sequence[Encoded]
    validation: Sequence[Encoded]
    questions: Sequence[Encoded]
    unrelated: Sequence[Encoded]
    position: str


@checked
def texts(study: Study, job: Job, unrelated: Sequence[Encoded], prompts: int = 16) -> Texts:
    """Prompts of one run's task: training rows, validation rows and questions.

    Args:
        prompts: of each kind, at most.
    """
    encoded, tokenizer = study.grid.task(job.concept, job.seed), study.grid.lm.tokenizer
    last = len(encoded.questions) - 1  # evenly, so that every family is there
    places = sorted({round(i * last / max(1, prompts - 1)) for i in range(prompts)})
    items = [encode_question(tokenizer, encoded.questions[i].question, "") for i in places]
    marked = [item for item in items if study.position == "last" or item.spans[study.position]]
    return Texts(
        encoded.train[:prompts],
        encoded.valid[:prompts],
        marked[:prompts],
        unrelated,
        study.position,
    )


@checked
def split(lm: LanguageModel, texts: Texts, look: Callable[[Batch], Tensor]) -> dict[str, Tensor]:
    """What ``look`` returns at each token of each text, by class of ``CLASSES``.

    Args:
        look: a batch to (n, t, d).

    Returns:
        Class to (m, d) float32 on the CPU: at most ``MOST`` vectors, evenly spaced, without zero
        ones.
    """
    vectors: dict[str, list[Tensor]] = {name: [] for name in CLASSES}
    for name in ("training", "validation", "questions", "unrelated"):
        items: Sequence[Encoded] = getattr(texts, name)
        for start in range(0, len(items), _ROWS):
            batch = collate(items[start : start + _ROWS], lm.pad_id).to(lm.device)
            states, prompt = look(batch).float(), batch.positions["all"]
            read = batch.positions[texts.position] & prompt
            vectors[name].append(states[prompt if name == "unrelated" else read].cpu())
            if name == "validation":
                vectors["other"].append(states[prompt & ~read].cpu())
            if name in ("training", "unrelated"):
                # The paper's 20: first tokens can have a norm hundreds of times the usual one.
                column = torch.arange(states.shape[1], device=states.device)[None]
                late = prompt & (column >= prompt.sum(1, keepdim=True) - 20)
                vectors["pooled"].append(states[late].cpu())
    return {name: _some(torch.cat(parts)) for name, parts in vectors.items()}


def _some(vectors: Tensor) -> Tensor:
    vectors = vectors[(vectors != 0).any(1)]
    return vectors[:: max(1, -(-len(vectors) // MOST))]


class Bench:
    """The texts of one run, run up to a block once, for every LoRA on that block alone.

    What enters the block does not depend on such a LoRA, so each LoRA costs one pass through the
    block.

    Args:
        block: of the LoRAs that will be examined.
    """

    @checked
    def __init__(self, lm: LanguageModel, texts: Texts, block: int) -> None:
        self.lm, self.texts, self.block = lm, texts, block
        self._block_inputs: list[tuple[Any, Any]] = []
        self._map_inputs: list[Tensor] = []
        self._base_outputs: list[Tensor] = []
        self.inputs = split(lm, texts, self._first)

    def _first(self, batch: Batch) -> Tensor:
        """Run the model, keep the block's inputs, and return those of the adapted map."""
        down = self.lm.model.get_submodule(self.lm.down_projection(self.block))

        def keep(module: nn.Module, args: Any, kwargs: Any) -> None:
            self._block_inputs.append((args, kwargs))

        with ExitStack() as undo, torch.no_grad():
            block = self.lm.block(self.block)
            undo.callback(block.register_forward_pre_hook(keep, with_kwargs=True).remove)
            hook = down.register_forward_pre_hook(lambda m, args: self._map_inputs.append(args[0]))
            undo.callback(hook.remove)
            self.lm.decoder(input_ids=batch.input_ids, use_cache=False)
        self._base_outputs.append(self._outputs(len(self._base_outputs)))
        return self._map_inputs[-1]

    @torch.no_grad()
    def _outputs(self, number: int) -> Tensor:
        """(n, t, 2 d): the MLP's output and the block's, of batch ``number``."""
        outputs: list[Tensor] = []
        mlp = self.lm.module(Site(self.block, "mlp_out"))
        hook = mlp.register_forward_hook(lambda m, args, out: outputs.append(output_tensor(out)))
        try:
            args, kwargs = self._block_inputs[number]
            block_output = output_tensor(self.lm.block(self.block)(*args, **kwargs))
        finally:
            hook.remove()
        return torch.cat([outputs[0], block_output], -1).float()

    @checked
    def added(self, adapter: LoraAdapter) -> dict[str, dict[str, Tensor]]:
        """What ``adapter`` adds, (m, d) by place of ``PLACES`` and class of ``CLASSES``.

        Raises:
            UserError: a LoRA that is not on this block alone.
        """
        if adapter.blocks != (self.block,):
            raise UserError(
                f"A LoRA on blocks {adapter.blocks!r} cannot be looked into. Allowed: block "
                f"{self.block} alone."
            )
        numbers = iter(range(len(self._base_outputs)))
        with adapter.attach(self.lm) as attached:

            def look(batch: Batch) -> Tensor:
                number = next(numbers)
                attached.focus(batch)
                return self._outputs(number) - self._base_outputs[number]

            vectors = split(self.lm, self.texts, look)
        d = self.lm.d_model
        slices = {"module": slice(0, d), "stream": slice(d, None)}
        return {place: {k: v[:, at] for k, v in vectors.items()} for place, at in slices.items()}


@checked
def random_lora(trained: LoraAdapter, lm: LanguageModel, seed: int) -> LoraAdapter:
    """Null: A and B drawn anew, each with the Frobenius norm of the trained one."""
    lora = LoraAdapter(**{**trained.config(), "seed": seed})
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for name, tensor in trained.state().items():
        noise = torch.randn(tensor.shape, generator=generator)
        tensors[name] = noise * (tensor.norm() / noise.norm())
    lora.restore(tensors)
    lora.belong(lm)
    return lora


@checked
def measured(vectors: Tensor) -> dict[str, float]:
    """How alike ``vectors`` (m, d) are: ``absolute``, ``signed``, ``mean_energy``, ``length_cv``.

    Four numbers of ``constancy.constancy``, without its quantiles and ranks, which are slow.
    NaN for fewer than two vectors: a LoRA at marked tokens adds nothing elsewhere.
    """
    if len(vectors) < 2:
        return dict.fromkeys(("absolute", "signed", "mean_energy", "length_cv"), float("nan"))
    vectors = constancy.usable(vectors)
    norms, n = vectors.norm(dim=1), len(vectors)
    pairs = (unit := vectors / norms[:, None]) @ unit.T
    count = n * (n - 1)  # every pair twice, no vector with itself
    return {
        "absolute": float(pairs.abs().sum() - n) / count,
        "signed": float(pairs.sum() - n) / count,
        "mean_energy": float(vectors.mean(0).square().sum() / norms.square().mean()),
        "length_cv": float(norms.std(correction=0) / norms.mean()),
    }


@checked
def look(
    study: Study,
    job: Job,
    control: Job | None,
    unrelated: Sequence[Encoded],
    *,
    prompts: int = 16,
    draws: int = 3,
    seen: Texts | None = None,
) -> pd.DataFrame:
    """One finished LoRA run and its nulls, by token class and place.

    Args:
        control: the run of the same concept and seed trained on random answers.
        draws: number of random LoRAs; their measures are averaged.
        seen: the prompts to examine it on; default ``texts`` of the run.

    Returns:
        Columns ``concept, seed, who, place, tokens, absolute, signed, mean_energy, length_cv``;
        ``who`` is ``LoRA``, ``random answers``, ``random LoRA`` or ``inputs``, the last only
        at the module. An untrained LoRA is not among them: its B is zero, so it adds nothing.

    Raises:
        UserError: a job that is not a LoRA on one block.
    """
    blocks = job.method.blocks
    if isinstance(blocks, str) or len(blocks) != 1:
        raise UserError(
            f"Job {job.method.name!r} on blocks {blocks!r} cannot be looked into. Allowed: a LoRA "
            "on one block."
        )
    lm, block = study.grid.lm, blocks[0]
    seen = seen or texts(study, job, unrelated, prompts)
    trained = study.grid.trained([job])
    assert isinstance(trained, LoraAdapter)
    loras: dict[str, list[LoraAdapter]] = {"LoRA": [trained]}
    if control is not None:
        control_lora = study.grid.trained([control])
        assert isinstance(control_lora, LoraAdapter)
        loras["random answers"] = [control_lora]
    if draws:
        loras["random LoRA"] = [random_lora(trained, lm, 1000 * job.seed + i) for i in range(draws)]
    rows = []
    bench = Bench(lm, seen, block)
    for name, adapters in loras.items():
        added = [bench.added(adapter) for adapter in adapters]
        for place in PLACES:
            for tokens in CLASSES:
                means = pd.DataFrame([measured(vectors[place][tokens]) for vectors in added]).mean()
                rows.append({"who": name, "place": place, "tokens": tokens, **means})
    rows += [
        {"who": "inputs", "place": "module", "tokens": tokens, **measured(inputs)}
        for tokens, inputs in bench.inputs.items()
    ]
    labels = {"concept": job.concept, "seed": job.seed, "run": f"{job.concept} {job.seed}"}
    return pd.DataFrame([{**labels, **row} for row in rows])


@checked
def examine(
    study: Study,
    method: Method,
    pairs: Sequence[tuple[str, int]],
    unrelated: Sequence[Encoded],
    *,
    nulls: bool = True,
    prompts: int = 16,
    draws: int = 3,
    of: Study | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train (or reuse) a LoRA on every pair, and its nulls; look into each.

    Args:
        nulls: also train on random answers.
        draws: random LoRAs per run.
        of: a study with as many pairs, on whose texts the LoRAs are examined; default the same.

    Returns:
        The table of ``look`` over all runs; and answers as in ``Grid.run``, of methods
        ``lora_one`` and ``random_answers``.
    """
    jobs = protocol.jobs(method, pairs)
    answers = [study.grid.run(jobs, "LoRAs")]
    controls: list[Job | None] = [None] * len(jobs)
    if nulls:
        control_jobs = protocol.jobs(study.random_answers(method), pairs)
        answers.append(study.grid.run(control_jobs, "random answers"))
        controls = list(control_jobs)
    tables, source = [], of or study
    text_jobs = protocol.jobs(method, source.pairs[: len(jobs)] if of else pairs)
    triples = list(zip(jobs, controls, text_jobs, strict=True))
    for job, control, text_job in bar(triples, "looking into LoRAs"):
        run_texts = texts(source, text_job, unrelated, prompts)
        tables.append(look(study, job, control, unrelated, draws=draws, seen=run_texts))
    return pd.concat(tables, ignore_index=True), pd.concat(answers, ignore_index=True)
