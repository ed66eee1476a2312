"""Tiny random models written as GGUF files, the way llama.cpp's converter lays them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig
from transformers.convert_slow_tokenizer import bytes_to_unicode

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
#: A merge of two digits, which a tokenizer that cuts numbers into digits never reaches.
MERGES = ("1 2", "o w")
BYTE_LEVEL = [*SPECIALS, *bytes_to_unicode().values(), "12", "ow"]
#: Gemma's kind: special tokens in its order, bytes, printable signs, the space's own sign.
PIECES = [
    *("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"),
    *(f"<0x{k:02X}>" for k in range(256)),
    *(chr(k) for k in range(33, 127)),
    *("\u2581", "\u2581C", "it", "ity"),
]
TOKENS = {"llama": BYTE_LEVEL, "gemma3": PIECES}
SIZES: dict[str, Any] = {
    **{"hidden_size": 32, "intermediate_size": 48},
    **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8},
    **{"max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2},
    **{"tie_word_embeddings": True},
}
_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OF_LLAMA = {"post_attention_layernorm": "ffn_norm"}
_OF_GEMMA = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def model(kind: str) -> Any:
    """A random ``llama`` or ``gemma3``, norms included."""
    torch.manual_seed(0)
    config_class = LlamaConfig if kind == "llama" else Gemma3TextConfig
    config = config_class(**SIZES, vocab_size=len(TOKENS[kind]))
    made = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "norm" in name:
                weight += 0.3 * torch.randn_like(weight)
    return made


def write(path: Path, kind: str = "llama", pre: str = "smollm", made: Any = None) -> Any:
    """Write a model with its kind's tokenizer in 32 bits; returns the model."""
    made = model(kind) if made is None else made
    writer = gguf.GGUFWriter(path, kind)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(8)
    writer.add_value_length(8)
    writer.add_rope_freq_base(made.config.rope_parameters.get("rope_theta", 1e6))
    writer.add_layer_norm_rms_eps(made.config.rms_norm_eps)
    writer.add_vocab_size(len(TOKENS[kind]))
    if kind == "gemma3":
        writer.add_sliding_window(made.config.sliding_window)
    tokens = TOKENS[kind]
    writer.add_token_list(tokens)
    if kind == "llama":
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_types([3 if token in SPECIALS else 1 for token in tokens])
        writer.add_token_merges(list(MERGES))
    else:
        writer.add_tokenizer_model("llama")
        writer.add_token_types([3, 3, 3, 2, 3, *[6] * 256, *[1] * (len(tokens) - 261)])
        writer.add_token_scores([-float(k) for k in range(len(tokens))])
        writer.add_unk_token_id(3)
    writer.add_bos_token_id(1 if kind == "llama" else 2)
    writer.add_eos_token_id(2 if kind == "llama" else 1)
    writer.add_add_bos_token(False)
    writer.add_chat_template(
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    for name, weight in made.state_dict().items():
        if name != "lm_head.weight":
            writer.add_tensor(_name(name, kind), _laid_out(name, weight, kind).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return made


def _name(name: str, kind: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, block, rest = name.split(".", 3)
    names = _NAMES | (_OF_LLAMA if kind == "llama" else _OF_GEMMA)
    return f"blk.{block}.{names[rest.removesuffix('.weight')]}.weight"


def _laid_out(name: str, weight: torch.Tensor, kind: str) -> torch.Tensor:
    """Llama's rotated halves lie in turn; Gemma's norms have their 1 added."""
    if kind == "gemma3" and "norm" in name:
        return weight + 1
    if kind == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = SIZES["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
        halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1)
        return halves.swapaxes(1, 2).reshape(weight.shape).contiguous()
    return weight.contiguous()
