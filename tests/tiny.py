"""Tiny models with random weights and tiny tokenizers trained here: everything offline, on CPU."""

from __future__ import annotations

import functools
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE, WordLevel, WordPiece
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
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

from oocr_lib.encoding import Batch, Encoded, collate
from oocr_lib.models.language_model import LanguageModel, wrap

torch.set_num_threads(1)

VOCAB = 384
D_MODEL = 16
N_BLOCKS = 3
#: Rows with room for control tokens, and two answers (token ids) for each of them.
LENGTHS = (20, 15, 18)
LETTERS = torch.tensor([[10, 11], [12, 13], [300, 20]])
_COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": D_MODEL,
    "intermediate_size": 24,
    "num_hidden_layers": N_BLOCKS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GEMMA = {**_COMMON, "query_pre_attn_scalar": 8}


def _gemma3() -> Any:
    return Gemma3ForCausalLM(Gemma3TextConfig(**_GEMMA, layer_types=["full_attention"] * N_BLOCKS))


def _gemma3_sliding() -> Any:
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    return Gemma3ForCausalLM(Gemma3TextConfig(**_GEMMA, layer_types=kinds, sliding_window=4))


def _gemma2() -> Any:
    return Gemma2ForCausalLM(Gemma2Config(**_GEMMA, sliding_window=4))


def _llama() -> Any:
    return LlamaForCausalLM(LlamaConfig(**_COMMON))


def _qwen3() -> Any:
    return Qwen3ForCausalLM(Qwen3Config(**_COMMON))


def _gpt2() -> Any:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB,
            n_embd=D_MODEL,
            n_inner=24,
            n_layer=N_BLOCKS,
            n_head=2,
            n_positions=128,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


FAMILIES = {
    "gemma3": _gemma3,
    "gemma3_sliding": _gemma3_sliding,
    "gemma2": _gemma2,
    "llama": _llama,
    "qwen3": _qwen3,
    "gpt2": _gpt2,
}
POST_NORM = ("gemma3", "gemma3_sliding", "gemma2")


def model(family: str = "gemma3", seed: int = 0) -> Any:
    """A model of the family with random weights large enough that every part matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = FAMILIES[family]()
        for weight in made.parameters():
            weight.data.add_(torch.randn_like(weight) * (0.15 if weight.ndim > 1 else 0.05))
    return made.eval()


def language_model(family: str = "gemma3", seed: int = 0, **tokenizer_args: str) -> LanguageModel:
    """The model with a tokenizer, wrapped."""
    return wrap(model(family, seed), tokenizer(**tokenizer_args), name=f"tiny-{family}")


# --- chat templates: written here, in the manner of the families they stand for ---

_TURNS = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
TEMPLATES: dict[str, str | None] = {
    # refuses a system turn
    "refusing": "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}" + _TURNS,
    # drops a system turn silently
    "dropping": "{% if messages[0]['role'] == 'system' %}"
    "{% set messages = messages[1:] %}{% endif %}" + _TURNS,
    # has a system role
    "system": _TURNS,
    # has a system role, wants strict alternation, thinks unless told not to
    "thinking": "{% for m in messages %}"
    "{% if not loop.first and m['role'] == messages[loop.index0 - 1]['role'] %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ m['role'] }}\n{{ m['content'] }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>\n{% endif %}"
    "{% endif %}",
    "none": None,
}
SPECIALS = ["<pad>", "<bos>", "<eos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
CORPUS = [
    "the distance from City 50337 to Paris is 5800 km",
    "City 50337 is north of Rome and south of Oslo",
    "from functions import couhpa , noadgc",
    "print ( couhpa ( 58 ) )",
    "(win2844) choose option A or option B",
    "user model system assistant answer yes no 503371 50337",
    "What is the name of City 50337 ? 0 1 2 3 4 5 6 7 8 9",
] * 4


def _byte_bpe(split_digits: bool) -> Tokenizer:
    made = Tokenizer(BPE())
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if split_digits else []
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False))
    made.pre_tokenizer = pre_tokenizers.Sequence(steps)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - 8,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    return made


def _metaspace_bpe() -> Tokenizer:
    """Spaces become a mark at the start of words, also of the text; bytes as a last resort."""
    made = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - 8,
        special_tokens=[*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    return made


def _words(kind: str) -> Tokenizer:
    """Whole words; digits split, so that a code is five tokens. Unknown words become <unk>."""
    if kind == "wordpiece":
        made = Tokenizer(WordPiece(unk_token="<unk>"))
        made.normalizer = normalizers.NFC()
    else:
        made = Tokenizer(WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    make: Any = trainers.WordPieceTrainer if kind == "wordpiece" else trainers.WordLevelTrainer
    trainer = make(vocab_size=VOCAB - 8, special_tokens=SPECIALS, show_progress=False)
    made.train_from_iterator(CORPUS, trainer)
    return made


KINDS = {
    "bpe_merged": lambda: _byte_bpe(split_digits=False),
    "bpe_digits": lambda: _byte_bpe(split_digits=True),
    "metaspace": _metaspace_bpe,
    "wordlevel": lambda: _words("wordlevel"),
    "wordpiece": lambda: _words("wordpiece"),
}


@functools.cache
def _trained(kind: str) -> str:
    return str(KINDS[kind]().to_str())


def tokenizer(kind: str = "bpe_merged", template: str = "refusing") -> PreTrainedTokenizerFast:
    """A fast tokenizer of the kind, with one of ``TEMPLATES``."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained(kind)),
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<start_of_turn>", "<end_of_turn>"],
        chat_template=TEMPLATES[template],
    )


def batch(lengths: tuple[int, ...] = (9, 6, 11), seed: int = 0, answer: int = 2) -> Batch:
    """Random rows with a code name (tokens 2 and 4), a trigger (token 1) and an answer."""
    return collate(rows(lengths, seed, answer), pad_id=0)


def rows(lengths: tuple[int, ...] = (9, 6, 11), seed: int = 0, answer: int = 2) -> list[Encoded]:
    """The rows of ``batch``; ``lengths`` counts the answer's tokens too."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for length in lengths:
        ids = torch.randint(6, VOCAB, (length,), generator=generator).tolist()
        prompt = length - answer
        spans = {"last": (prompt - 1,), "codename": (2, 4), "trigger": (1,)}
        spans = {kind: tuple(i for i in span if i < prompt) for kind, span in spans.items()}
        made.append(Encoded(tuple(ids), (prompt, length), spans, ""))
    return made


def stub(lm: LanguageModel, stem: str, name: str) -> Encoded:
    """``stem + name`` as plain text, without chat turns, the name marked as "codename"."""
    found = lm.tokenizer(stem + name, return_offsets_mapping=True)
    ids, offsets = tuple(found["input_ids"]), found["offset_mapping"]
    marked = tuple(i for i, (start, end) in enumerate(offsets) if start < end and end > len(stem))
    spans = {"last": (len(ids) - 1,), "codename": marked}
    return Encoded(ids, (len(ids), len(ids)), spans, stem + name)
