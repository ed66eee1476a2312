"""What is compared: a method says what is trained and where, a job is one run of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from oocr_lib.encoding import POSITIONS
from oocr_lib.training.loop import TrainConfig
from oocr_lib.util.arguments import checked_fields
from oocr_lib.util.doubles import no_doubles
from oocr_lib.util.errors import UserError, choose, short

KINDS = ("base", "vector", "random", "lora")


@checked_fields
@dataclass(frozen=True)
class Method:
    """What is trained and where.

    Attributes:
        name: one of the names of ``metrics.json`` (``vector_resid``, ``lora_one``, …).
        kind: ``base`` (nothing), ``vector``, ``random`` (an untrained direction of given
            length), ``lora``.
        site: ``kind@block`` of a vector; empty for other kinds.
        position: tokens that a vector is added to.
        length: length of a random direction, in units of the site's norm.
        blocks: blocks of a LoRA, or ``"all"``.
        shuffled: train on shuffled answers (control).
        random_answers: train on answers drawn anew (control; ``tasks.base.random_answers``).
        drawn_from: concepts from whose answers these are drawn, the job's own included; empty: from
            the answers of the job's own rows.
        strata: entries of a row's ``meta`` that divide the rows; of two answers, half is kept in
            each part.
        raw: learning rate and lengths of a vector in the model's own units, as in the paper, not
            in units of the site's norm.
        init: length of a vector's random start.
        dropout: of a LoRA's input.
        lora_position: tokens that a LoRA touches; ``all`` is every token, answers included.

    Raises:
        UserError: a value of another type, an unknown kind or position, or an impossible rank,
            alpha or dropout.
    """

    name: str
    kind: str
    site: str = ""
    position: str = "codename"
    length: float = 0.0
    blocks: Sequence[int] | str = ()
    rank: int = 16
    alpha: float = 32.0
    modules: Sequence[str] = ("down",)
    shuffled: bool = False
    random_answers: bool = False
    drawn_from: Sequence[str] = ()
    strata: Sequence[str] = ()
    raw: bool = False
    init: float = 0.0
    dropout: float = 0.0
    lora_position: str = "all"
    config: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        choose(self.kind, KINDS, "kind of method")
        choose(self.position, POSITIONS, "position")
        choose(self.lora_position, POSITIONS, "position")
        if self.rank < 1 or not 0 < self.alpha < float("inf") or not 0 <= self.dropout < 1:
            raise UserError(
                f"Method {short(self.name)} has rank {self.rank}, alpha {self.alpha} and dropout "
                f"{self.dropout}. Allowed: a rank from 1, alpha above 0, dropout from 0 to below 1."
            )
        # Methods are dictionary keys, so their lists become tuples.
        for name in ("modules", "drawn_from", "strata"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not isinstance(self.blocks, str):
            object.__setattr__(self, "blocks", tuple(self.blocks))


@checked_fields
@dataclass(frozen=True)
class Job:
    """A method on one hidden concept with one seed.

    Raises:
        UserError: a value of another type.
    """

    method: Method
    concept: str
    seed: int


def check_jobs(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs, having checked that none comes twice.

    Raises:
        UserError: one that comes twice, which would count as two runs.
    """

    def describe(job: Job) -> str:
        where = f" at {job.method.site}" if job.method.site else ""
        return f"{job.method.name}{where} on {job.concept}, seed {job.seed}"

    return list(no_doubles(jobs, "job", describe))


def cross(methods: Sequence[Method], concepts: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """Every method on every concept with every seed.

    Raises:
        UserError: one of them comes twice.
    """
    no_doubles(concepts, "concept")
    no_doubles(seeds, "seed")
    return check_jobs([Job(m, c, s) for m in methods for c in concepts for s in seeds])


def with_config(method: Method, **changes: Any) -> Method:
    """The same method with other training hyperparameters."""
    return replace(method, config=replace(method.config, **changes))
