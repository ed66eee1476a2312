"""What to train: a vector or a LoRA, described in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oocr_lib.adapters import LoraAdapter, VectorAdapter
from oocr_lib.encoding import POSITIONS
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.util.arguments import checked_fields
from oocr_lib.util.errors import UserError, choose


@checked_fields
@dataclass(frozen=True)
class Vector:
    """h ← h + v at the tokens ``at``, where h is the activation at ``site``; v (d,) is trained.

    The learning rate is in units of the typical norm of h there (paper, section 3.5; its vectors
    sit at ``mlp_out``, the output of the MLP).

    Attributes:
        site: ``resid@4`` (the output of block 4), ``mlp_out@4`` or ``attn_out@4``.
        at: ``codename`` (every token of the code name), ``last`` (the last token of the prompt),
            ``trigger``, or ``all`` (every token of the prompt: an unconditional vector).
        lr: peak learning rate.

    Raises:
        UserError: an unreadable site, an unknown position, or a rate that is not positive.

    >>> Vector("resid@4", at="codename").name
    'vector resid@4'
    """

    site: str
    at: str = "codename"
    lr: float = 0.05

    def __post_init__(self) -> None:
        Site.parse(self.site)
        choose(self.at, POSITIONS, "position")
        _check_rate(self.lr)

    @property
    def name(self) -> str:
        """Its name in tables."""
        return f"vector {self.site}"

    def check(self, lm: LanguageModel) -> None:
        """Raises UserError for a block that the model lacks."""
        lm.module(Site.parse(self.site))

    def adapter(self, lm: LanguageModel, scale: float, seed: int) -> VectorAdapter:
        """A fresh adapter; ``scale`` is the site's typical norm."""
        return VectorAdapter([self.site], lm.d_model, self.at, [scale], seed=[seed])


@checked_fields
@dataclass(frozen=True)
class Lora:
    """W x ← W x + (alpha / rank) B A x in the MLPs of ``blocks``; A (rank, in), B (out, rank).

    Attributes:
        blocks: block numbers, or ``"all"``. The paper uses one block, and all of them.
        rank, alpha: size and strength.
        modules: which maps of the MLP: any of ``gate``, ``up``, ``down``.
        at: tokens that it acts on; ``all`` is every token, answers included.
        lr: peak learning rate.

    Raises:
        UserError: what ``adapters.LoraAdapter`` refuses, or a rate that is not positive.

    >>> Lora([4], rank=8).name
    'LoRA 4 rank 8'
    """

    blocks: Sequence[int] | str
    rank: int = 16
    alpha: float = 32.0
    modules: Sequence[str] = ("down",)
    at: str = "all"
    lr: float = 0.01

    def __post_init__(self) -> None:
        self._build(0)
        _check_rate(self.lr)

    @property
    def name(self) -> str:
        """Its name in tables."""
        blocks = self.blocks if isinstance(self.blocks, str) else ",".join(map(str, self.blocks))
        return f"LoRA {blocks} rank {self.rank}"

    def check(self, lm: LanguageModel) -> None:
        """Raises UserError for a block or map that the model lacks."""
        self._build(0).targets(lm)

    def adapter(self, lm: LanguageModel, scale: float, seed: int) -> LoraAdapter:
        """A fresh adapter; ``scale`` matters only for vectors and is ignored."""
        return self._build(seed)

    def _build(self, seed: int) -> LoraAdapter:
        shape = (self.blocks, self.rank, self.alpha, 0.0, self.modules)
        return LoraAdapter(*shape, seed=seed, position=self.at)


def _check_rate(lr: float) -> None:
    if not 0 < lr < float("inf"):
        raise UserError(f"Learning rate {lr!r} cannot be used. Allowed: positive numbers.")
