"""What everything trainable has in common: attach to a frozen model, point at a batch, let go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from torch import Tensor, nn

from oocr_lib.encoding import Batch
from oocr_lib.errors import UserError
from oocr_lib.models import LanguageModel
from oocr_lib.store import load_tensors, save_tensors

T = TypeVar("T")

#: For each run, its parameters: whole ones (None), or one row of a parameter that runs share.
Parts = list[list[tuple[nn.Parameter, int | None]]]


class Attached:
    """An adapter in place: a handle to keep, or a context manager.

    Leaving the context, also by an error, takes away exactly what ``attach`` added.

    >>> # with adapter.attach(lm) as attached:
    >>> #     attached.focus(batch)
    >>> #     loss = lm.model(input_ids=batch.input_ids, use_cache=False) ...
    """

    def __init__(self, undo: ExitStack) -> None:
        self._undo = undo

    def focus(self, batch: Batch | None, index: Tensor | None = None, *, start: int = 0) -> None:
        """Point the following forward passes at ``batch``; None switches the adapter off.

        Args:
            batch: the rows that will be run, (n, t).
            index: (n,) int64, which vector (run) each row uses; default the first.
            start: position of the batch's first column in the sequence; above 0 when the columns
                before it come from a key/value cache. A batch with a ``past`` says so itself.

        Adapters without positions ignore it.
        """

    def train(self, mode: bool = True) -> None:
        """Switch dropout on or off; it is off after ``attach``. Adapters without it ignore this."""

    def remove(self) -> None:
        """Take away what was added; a second call does nothing."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


class Adapter(Protocol):
    """Trainable parameters that can be attached to a frozen model."""

    kind: str

    def parameters(self) -> Iterable[nn.Parameter]:
        """The trainable parameters; the same objects through every attach and remove."""

    def parts(self) -> Parts:
        """The same by run, so that runs can differ in learning rate and stop one by one."""

    def attach(self, lm: LanguageModel) -> Attached:
        """Put the adapter into the model; a set-up error leaves nothing behind."""

    def state(self) -> dict[str, Tensor]:
        """Name to tensor, on the CPU: what ``save`` writes."""

    def config(self) -> dict[str, Any]:
        """JSON-able arguments that rebuild the adapter."""

    def save(
        self,
        path: str | os.PathLike[str],
        extra_metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Write state and config to one safetensors file."""


def count_parameters(adapter: Adapter) -> int:
    """Number of trainable scalars."""
    return sum(parameter.numel() for parameter in adapter.parameters())


class Saved:
    """Every adapter is saved the same way."""

    def save(
        self: Adapter,
        path: str | os.PathLike[str],
        extra_metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Write state, and kind, config and ``extra_metadata`` in the header, to safetensors."""
        metadata = {**(extra_metadata or {}), "kind": self.kind, "config": self.config()}
        save_tensors(path, self.state(), metadata)


def read_adapter(
    path: str | os.PathLike[str], kind: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State and constructor arguments of a saved adapter of this ``kind``.

    Raises:
        UserError: another kind, or a file that ``load_tensors`` refuses.
    """
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") != kind or not isinstance(metadata.get("config"), dict):
        raise UserError(
            f"File {str(path)!r} holds {metadata.get('kind', 'no adapter')!r}. Allowed: {kind!r}; "
            "load it with oocr_lib.adapters.load."
        )
    return tensors, metadata["config"]


def rebuild(make: Callable[..., T], config: Mapping[str, Any], path: str | os.PathLike[str]) -> T:
    """``make(**config)`` for a config that came from a file.

    Raises:
        UserError: the config's names or values are not those of the constructor.
    """
    try:
        return make(**config)
    except (TypeError, AttributeError) as error:
        raise UserError(
            f"File {str(path)!r} has a config that builds no adapter ({error}). Allowed: a file as "
            "this version of the library writes it; train the adapter again."
        ) from error
