"""Where a decoder has its norms: after the last block, and after a module that writes.

Names are those of Hugging Face decoders. A model with other names is refused, never guessed.
"""

from __future__ import annotations

from torch import nn

from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError

_FINAL_NORMS = ("norm", "ln_f", "final_layernorm", "final_layer_norm")
#: Kind of site to the norm of its output, in a block that has both. Llama and Qwen give the name
#: post_attention_layernorm to the norm *before* the MLP; it is the norm of the attention output
#: only in a block that also has a norm after the MLP.
POST_NORMS = {"attn_out": "post_attention_layernorm", "mlp_out": "post_feedforward_layernorm"}


@checked
def final_norm(
    lm: LanguageModel, instead: str = "use a Gemma, Llama, Qwen or GPT-2 style model"
) -> nn.Module:
    """The norm between the last block and the unembedding.

    Args:
        instead: what the error proposes where there is no such norm.

    Raises:
        UserError: no norm of a known name.
    """
    decoder = lm.model.get_submodule(lm.layout.blocks.rpartition(".")[0])
    children = dict(decoder.named_children())
    norm = next((children[name] for name in _FINAL_NORMS if name in children), None)
    if norm is None:
        raise UserError(
            f"The decoder of {lm.name!r} has no known final norm (children: {', '.join(children)})."
            f" Allowed names: {', '.join(_FINAL_NORMS)}; {instead}."
        )
    return norm


@checked
def post_norm(lm: LanguageModel, site: Site) -> nn.Module | None:
    """The norm between a module's output and the residual stream, as in Gemma 2 and 3.

    ``None`` where the output is added as it is: at ``resid``, and in Llama, Qwen and GPT-2 shapes.

    Raises:
        UserError: a block that the model lacks.
    """
    children = dict(lm.block(site.block).named_children())
    if POST_NORMS["mlp_out"] not in children or site.kind == "resid":
        return None
    return children.get(POST_NORMS[site.kind])
