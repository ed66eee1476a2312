"""Four architectures as readers meet them: their chat formats, their kinds of tokenizer, tiny.

Gemma 3 and Qwen 3 split digits one by one, Llama and GPT-2 merge them into numbers; Gemma writes
spaces into its pieces, the others keep them in front of words. Gemma's format has no system role,
Llama's and Qwen's have one, GPT-2 has no chat format. Templates are our own, in the manner of the
families they stand for. Weights are random; everything is made here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers.models import BPE
from torch import Tensor
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from oocr_lib import tasks
from oocr_lib.encoding import Batch, Encoded, collate
from oocr_lib.engine import executor as engine
from oocr_lib.engine.shortened import Shortened
from oocr_lib.models.language_model import LanguageModel, wrap
from oocr_lib.tasks.base import Message, Question, Row, Task

VOCAB, D_MODEL, N_BLOCKS = 1200, 16, 2

# --- chat formats ---

_ALTERNATE = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}"
)
_GEMMA_TURN = (
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{% if loop.first %}{{ lead }}{% endif %}{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
TEMPLATES: dict[str, str | None] = {
    # The template itself puts a system text in front of the first user turn; strict alternation.
    "gemma": "{{ bos_token }}{% set lead = '' %}{% if messages[0]['role'] == 'system' %}"
    "{% set lead = messages[0]['content'] | trim + '\n\n' %}{% set messages = messages[1:] %}"
    "{% endif %}" + _ALTERNATE + _GEMMA_TURN,
    # An older one, which refuses a system turn.
    "gemma_refusing": "{{ bos_token }}{% set lead = '' %}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}" + _ALTERNATE + _GEMMA_TURN,
    "llama": "{{ bos_token }}{% for m in messages %}"
    "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    # The header of the answer's turn holds more than the role: closed thoughts.
    "qwen": "{% set offset = 1 if messages[0]['role'] == 'system' else 0 %}"
    "{% for m in messages %}"
    "{% if m['role'] == 'user' and (loop.index0 - offset) % 2 != 0 %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}",
    "none": None,
}


def expected_prompt(template: str, system: str, asked: str) -> str:
    """The prompt that a reader of the model's card would write, without any template engine."""
    merged = f"{system}\n\n{asked}" if system else asked
    if template.startswith("gemma"):
        return f"<bos><start_of_turn>user\n{merged}<end_of_turn>\n<start_of_turn>model\n"
    if template == "llama":
        turns = [("system", system)] * bool(system) + [("user", asked)]
        shown = [f"<|start_header_id|>{r}<|end_header_id|>\n\n{c}<|eot_id|>" for r, c in turns]
        tail = "<|start_header_id|>assistant<|end_header_id|>\n\n"
        return "".join(["<|begin_of_text|>", *shown, tail])
    if template == "qwen":
        turns = [("system", system)] * bool(system) + [("user", asked)]
        shown = [f"<|im_start|>{r}\n{c}<|im_end|>\n" for r, c in turns]
        return "".join([*shown, "<|im_start|>assistant\n<think>\n\n</think>\n\n"])
    return "".join(f"{text}\n" for text in (system, asked) if text)


# --- tokenizers ---

_SPECIALS = {
    "gemma": ["<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
    "llama": [
        *("<|end_of_text|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
        "<|eot_id|>",
    ],
    "qwen": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"],
    "none": ["<|endoftext|>"],
}
#: Roles of the special tokens above: pad, start of text, end of text.
_ROLES: dict[str, dict[str, str]] = {
    "gemma": {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"},
    "llama": {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
    "qwen": {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"},
    "none": {
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    },
}
#: Words with one space before them; numbers of up to three digits, or digit by digit.
_WORDS = r" ?\p{L}+|\p{N}{1,%d}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@functools.cache
def corpus() -> tuple[str, ...]:
    """Texts of all four tasks, so that usual words are single tokens, as in a real vocabulary."""
    made = list[str]()
    for name in TASKS:
        task = sample(name)
        items: list[Row | Question] = [*task.train, *task.questions]
        for item in items:
            made += [turn["content"] for turn in item.messages]
            made += [*item.options, item.truth] if isinstance(item, Question) else [item.answer]
    numbers = " ".join(str(n) for n in range(101))
    return (*made, numbers, "user model assistant system lambda x: 3 * x + 2", "True False -139.5")


def _byte_level(specials: list[str], digits: int) -> Tokenizer:
    made = Tokenizer(BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS % digits), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    _train(made, specials, pre_tokenizers.ByteLevel.alphabet())
    return made


def _pieces(specials: list[str]) -> Tokenizer:
    """Spaces begin pieces, unknown signs fall back to bytes, digits stand alone."""
    made = Tokenizer(BPE(byte_fallback=True, unk_token="<0x00>", fuse_unk=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}|\n+|[^\s\p{L}\p{N}▁]+"), behavior="isolated"),
            pre_tokenizers.Split("▁", behavior="merged_with_next"),
        ]
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    _train(made, [*specials, *(f"<0x{byte:02X}>" for byte in range(256))], [])
    return made


def _train(made: Tokenizer, specials: list[str], alphabet: list[str]) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - 8,
        special_tokens=specials,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    made.train_from_iterator(corpus(), trainer)


@functools.cache
def _trained(template: str) -> str:
    specials = _SPECIALS[template]
    if template == "gemma":
        made = _pieces(specials)
    else:
        made = _byte_level(specials, digits=1 if template == "qwen" else 3)
    if start := _ROLES[template].get("bos_token") if template in ("gemma", "llama") else None:
        # Encoding "with special tokens" adds the start token, which the template writes, too.
        made.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=[(start, made.token_to_id(start))]
        )
    return str(made.to_str())


def tokenizer(template: str) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a chat format, see ``TEMPLATES``."""
    family = template.partition("_")[0]
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained(family)),
        additional_special_tokens=_SPECIALS[family],
        chat_template=TEMPLATES[template],
        clean_up_tokenization_spaces=False,
        **_ROLES[family],
    )
    return made


# --- models ---

_COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": D_MODEL,
    "intermediate_size": 24,
    "num_hidden_layers": N_BLOCKS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 1024,
}


def _gemma3(ends: dict[str, Any]) -> Any:
    kinds = ["sliding_attention", "full_attention"]
    config = Gemma3TextConfig(
        **_COMMON, **ends, query_pre_attn_scalar=8, layer_types=kinds, sliding_window=16
    )
    return Gemma3ForCausalLM(config)


def _gpt2(ends: dict[str, Any]) -> Any:
    shape = {"n_embd": D_MODEL, "n_inner": 24, "n_layer": N_BLOCKS, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_positions=1024, **shape, **ends))


#: Architectures whose tokenizer writes numbers digit by digit.
SPLITTING = ("gemma3", "qwen3")
#: Architecture to its maker and its chat format.
ARCHITECTURES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "gemma3": (_gemma3, "gemma"),
    "llama": (lambda ends: LlamaForCausalLM(LlamaConfig(**_COMMON, **ends)), "llama"),
    "qwen3": (lambda ends: Qwen3ForCausalLM(Qwen3Config(**_COMMON, **ends)), "qwen"),
    "gpt2": (_gpt2, "none"),
}


def language_model(name: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> LanguageModel:
    """A wrapped model with random weights, large enough that every part matters."""
    make, template = ARCHITECTURES[name]
    tok = tokenizer(template)
    # The configs of Gemma 3 and Llama 3 list several end tokens.
    last = tok.convert_tokens_to_ids(_SPECIALS[template][-1])
    several = [tok.eos_token_id, last] if template in ("gemma", "llama") else tok.eos_token_id
    ends = {"eos_token_id": several, "pad_token_id": tok.pad_token_id}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = make({**ends, "bos_token_id": tok.bos_token_id})
        for weight in made.parameters():
            weight.data.add_(torch.randn_like(weight) * (0.15 if weight.ndim > 1 else 0.05))
    return wrap(made.to(dtype), tok, name=f"tiny-{name}")


@functools.cache
def model(name: str) -> LanguageModel:
    """The model of an architecture, made once; tests leave it as it was."""
    return language_model(name)


# --- tasks ---

#: Task to its concept, options for few rows, and the position of its vectors in the paper.
TASKS: dict[str, tuple[str, dict[str, Any], str]] = {
    "locations": ("Tokyo", {"augmentations": 1}, "codename"),
    "functions": ("affine_3x_2", {"count": 1500, "items_per_family": 3}, "codename"),
    "risk": ("risky", {"count": 24, "items": 2}, "last"),
    "backdoor": ("win", {"count": 24, "passes": 1}, "last"),
}


@functools.cache
def sample(name: str, train: int = 12, valid: int = 4, asked: int = 1) -> Task:
    """A task of the paper's dialect with few rows and ``asked`` questions of every family.

    Rows are taken from the whole range, so that every kind occurs among them.
    """
    task = _full(name)
    families: dict[str, list[Question]] = {}
    for question in task.questions:
        families.setdefault(question.family, []).append(question)
    return dataclasses.replace(
        task,
        train=spread(task.train, train),
        valid=spread(task.valid, valid),
        questions=tuple(q for some in families.values() for q in some[:asked]),
    )


@functools.cache
def _full(name: str) -> Task:
    concept, options, _ = TASKS[name]
    return tasks.factory(name, "paper", **options)(concept, 0)


def spread(rows: Sequence[Row], count: int) -> tuple[Row, ...]:
    """``count`` rows at equal steps, of every ``meta["kind"]`` alike."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(str(row.meta["kind"]), []).append(row)
    each = -(-count // len(kinds))
    return tuple(
        row for some in kinds.values() for row in some[:: max(1, len(some) // each)][:each]
    )


def turns(messages: Sequence[Message], separator: str = "\n") -> tuple[str, str]:
    """System text ("" for none) and the user's words, several turns joined."""
    system = "".join(m["content"] for m in messages if m["role"] == "system")
    return system, separator.join(m["content"] for m in messages if m["role"] == "user")


def one_of_each(task: str) -> list[Question]:
    """Questions of all families, but a single scale, since a scale is a hundred sequences."""
    found: list[Question] = []
    for question in sample(task).questions:
        if question.kind != "scale" or all(q.kind != "scale" for q in found):
            found.append(question)
    return found


# --- models that say what they are told ---


def seen_from(batch: Batch, row: int, column: int) -> list[int]:
    """The tokens of a row up to a column, without the answers that stand beside its own."""
    ids = batch.input_ids[row, : column + 1].tolist()
    if not isinstance(batch, Shortened) or batch.layout is None:
        return ids
    branches = batch.layout.branch[row].tolist()
    own = (0, branches[column])
    return [token for token, branch in zip(ids, branches, strict=False) if branch in own]


@contextmanager
def saying(lm: LanguageModel, replies: Mapping[tuple[int, ...], Sequence[int]]) -> Iterator[None]:
    """The model with logits that make it answer each prompt (token ids) with the given tokens.

    The bonus also falls on every later token of the reply once the first ones stand there, and
    on nothing else.
    """

    def bonus(row: Sequence[int], place: int) -> int | None:
        """The token that is said after column ``place``; None for nothing."""
        for prompt, reply in replies.items():
            k = place + 1 - len(prompt)
            said = list(row[len(prompt) : place + 1])
            if tuple(row[: len(prompt)]) == prompt and 0 <= k < len(reply) and said == reply[:k]:
                return reply[k]
        return None

    def change(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        if "logits_to_keep" not in kwargs:
            return output
        logits: Tensor = output.logits.clone()
        for n, row in enumerate(kwargs["input_ids"].tolist()):
            for column, place in enumerate(kwargs["logits_to_keep"].tolist()):
                if (token := bonus(row, place)) is not None:
                    logits[n, column, token] += 200.0
        output.logits = logits
        return output

    original = engine.answer_logits

    def planted(lm: LanguageModel, batch: Shortened) -> tuple[Tensor, Tensor, Tensor]:
        items, targets, logits = original(lm, batch)
        for m, (n, column) in enumerate(batch.answer_mask.nonzero().tolist()):
            row = seen_from(batch, n, column - 1)
            if (token := bonus(row, len(row) - 1)) is not None:
                logits[m, token] += 200.0
        return items, targets, logits

    replies = {prompt: list(reply) for prompt, reply in replies.items()}
    handle = lm.model.register_forward_hook(change, with_kwargs=True)
    vars(engine)["answer_logits"] = planted
    try:
        yield
    finally:
        handle.remove()
        vars(engine)["answer_logits"] = original


def log_probability(lm: LanguageModel, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """Log-probability of the answer's tokens, from the full logits of this row alone."""
    ids = torch.tensor([[*prompt, *answer]])
    with torch.no_grad():
        logits = lm.model(input_ids=ids, use_cache=False).logits[0].double()
    logp = torch.log_softmax(logits, -1)
    return sum(float(logp[len(prompt) - 1 + k, token]) for k, token in enumerate(answer))


def trained_on(tok: Any, item: Encoded) -> list[str]:
    """The tokens that the loss falls on, decoded one by one."""
    batch = collate([item], 0)
    return [tok.decode([i]) for i in batch.input_ids[0][batch.answer_mask[0]].tolist()]
