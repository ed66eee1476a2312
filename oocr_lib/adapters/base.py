"""What all adapters share: attach to a frozen model, point at a batch, be removed again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from oocr_lib.encoding import Batch
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.util.errors import UserError
from oocr_lib.util.files import load_tensors, save_tensors

T = TypeVar("T")

#: The parameters of each run: whole ones (None), or one row of a parameter that runs share.
Parts = list[list[tuple[nn.Parameter, int | None]]]


class Attached:
    """An adapter in place: a handle to keep, or a context manager.

    Leaving the context, also by an error, removes exactly what ``attach`` added.

    >>> # with adapter.attach(lm) as attached:
    >>> #     attached.focus(batch)
    >>> #     loss = lm.model(input_ids=batch.input_ids, use_cache=False) ...

    Attributes:
        positions: the tokens that each run's adapter touches, of ``encoding.POSITIONS``; a single
            entry holds for all runs.
    """

    positions: tuple[str, ...] = ("all",)

    def __init__(self, undo: ExitStack) -> None:
        self._undo = undo

    def list_in(self, attached: list[Any], adapter: Any) -> None:
        """Add ``adapter`` to a model's list of what is attached, until it is removed."""

        def forget() -> None:
            attached[:] = [other for other in attached if other is not adapter]

        attached.append(adapter)
        self._undo.callback(forget)

    def focus(self, batch: Batch | None, index: Tensor | None = None, *, start: int = 0) -> None:
        """Point the following forward passes at ``batch``; None switches the adapter off.

        Args:
            batch: the rows that will be run, (n, t).
            index: (n,) int64, which vector (run) each row uses; default the first.
            start: position of the batch's first column in the sequence; above 0 when the columns
                before it come from a key/value cache. An executor's batch says so itself.

        Adapters without positions ignore the call.
        """

    def train(self, mode: bool = True) -> None:
        """Switch dropout on or off; it is off after ``attach``. Adapters without it ignore this."""

    def remove(self) -> None:
        """Remove what was added; a second call does nothing."""
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
    model_digest: str | None

    def parameters(self) -> Iterable[nn.Parameter]:
        """The trainable parameters; the same objects through every attach and remove."""

    def parts(self) -> Parts:
        """The same for each run, so that runs can differ in learning rate and stop one by one."""

    def attach(self, lm: LanguageModel) -> Attached:
        """Put the adapter into the model; if that fails, nothing is left behind."""

    def state(self) -> dict[str, Tensor]:
        """The tensors that ``save`` writes, by name, on the CPU."""

    def config(self) -> dict[str, Any]:
        """Arguments that rebuild the adapter, JSON-able."""

    def save(
        self,
        path: str | os.PathLike[str],
        extra_metadata: Mapping[str, Any] | None = None,
        lm: LanguageModel | None = None,
    ) -> None:
        """Write state, config and the model it belongs to into one safetensors file."""


class Saved:
    """An adapter belongs to the first model it is attached to; that model is named in its file.

    Attributes:
        model_digest: of that model (``LanguageModel.digest``); None before.
        model_name: what the user called it.
    """

    model_digest: str | None = None
    model_name: str = ""

    def belong(self: Any, lm: LanguageModel, attached: Attached | None = None) -> None:
        """Belong to ``lm`` from now on; called after ``attach`` has succeeded.

        Args:
            attached: what ``attach`` will return; the model knows of it until it is removed.

        Raises:
            UserError: it belongs to another model.
        """
        self.refuse_other(lm)
        self.model_digest, self.model_name = lm.digest, lm.name
        if attached is not None:
            attached.list_in(lm.attached, self)

    def refuse_other(self: Any, lm: LanguageModel) -> None:
        """Check that ``lm`` is the model that this belongs to, if any; equal shapes do not suffice.

        Raises:
            UserError: it belongs to another model, or is attached already.
        """
        if any(other is self for other in lm.attached):
            raise UserError(
                f"This {self.kind} is attached to {lm.name!r} already and would act twice. "
                "Allowed: remove it first, or leave its with block."
            )
        if self.model_digest not in (None, lm.digest):
            raise UserError(
                f"This {self.kind} belongs to model {self.model_name!r} (digest "
                f"{self.model_digest[:12]}…), not to {lm.name!r} ({lm.digest[:12]}…), even where "
                "shapes fit. Allowed: its own model; load it with any_model=True, or call "
                "release(), to try it on another one."
            )

    def release(self) -> None:
        """Forget the model: the next one it is attached to becomes its own."""
        self.model_digest, self.model_name = None, ""

    def save(
        self: Any,
        path: str | os.PathLike[str],
        extra_metadata: Mapping[str, Any] | None = None,
        lm: LanguageModel | None = None,
    ) -> None:
        """Write the state, with kind, config, model and ``extra_metadata`` in the header.

        Args:
            lm: the model it belongs to, if it was never attached to one.

        Raises:
            UserError: no model, another one than before, or numbers that are not finite.
        """
        if lm is not None:
            self.belong(lm)
        if self.model_digest is None:
            raise UserError(
                f"This {self.kind} was never attached to a model, so its file could not say where "
                "it belongs. Allowed: attach it first, or give save(path, lm=...)."
            )
        owner = {"digest": self.model_digest, "name": self.model_name}
        header = {"kind": self.kind, "config": self.config(), "model": owner}
        save_tensors(path, self.state(), {**(extra_metadata or {}), **header})


def read_adapter(
    path: str | os.PathLike[str], kind: str, any_model: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """State, constructor arguments and model of a saved adapter of this ``kind``.

    Args:
        any_model: ignore which model it belongs to, and print what is ignored.

    Returns:
        The model as attributes of ``Saved``; empty with ``any_model``.

    Raises:
        UserError: another kind, numbers that are not float32, or a file that ``load_tensors``
            refuses.
    """
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") != kind or not isinstance(metadata.get("config"), dict):
        raise UserError(
            f"File {str(path)!r} holds {metadata.get('kind', 'no adapter')!r}. Allowed: {kind!r}; "
            "load it with oocr_lib.adapters.load."
        )
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise UserError(
                f"File {str(path)!r} has tensor {name!r} as {tensor.dtype}. Allowed: "
                "torch.float32, in which adapters are trained and saved."
            )
    owner = metadata.get("model")
    if not isinstance(owner, dict) or not isinstance(owner.get("digest"), str):
        raise UserError(
            f"File {str(path)!r} does not say which model it belongs to. Allowed: a file as save "
            "writes it; train the adapter again."
        )
    if any_model:
        print(
            f"Ignored: {Path(path).name} belongs to model {owner.get('name', '')!r} (digest "
            f"{owner['digest'][:12]}…)."
        )
        return tensors, metadata["config"], {}
    attributes = {"model_digest": owner["digest"], "model_name": str(owner.get("name", ""))}
    return tensors, metadata["config"], attributes


def rebuild(make: Callable[..., T], config: Mapping[str, Any], path: str | os.PathLike[str]) -> T:
    """``make(**config)`` for a config that came from a file.

    Raises:
        UserError: the config's names or values are not those of the constructor.
    """
    try:
        return make(**config)
    except (TypeError, AttributeError, ValueError) as error:  # UserError is a ValueError
        raise UserError(
            f"File {str(path)!r} has a config that builds no adapter "
            f"({str(error).rstrip('.')}). Allowed: a file as this version of the library writes "
            "it; train the adapter again."
        ) from error
