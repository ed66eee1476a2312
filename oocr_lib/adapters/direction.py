"""What if a LoRA added only its direction, all but its direction, or its mean? Tests of the claim.

Axes: n rows, t tokens, d model width.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from torch import Tensor, nn

from oocr_lib.adapters.base import Attached, Parts, Saved, read_adapter, rebuild
from oocr_lib.adapters.lora import LoraAdapter
from oocr_lib.encoding import Batch
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site, output_tensor, replace_output
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose

MODES = ("project_out", "keep_only", "replace_by_mean")
_INNER = "inner."  # before the names of the LoRA's tensors in a file


class Filtered(Saved):
    """y[n,t] = x[n,t] + f(a[n,t]),  a = MLP with the LoRA - x,  x = MLP without, on the same input.

    With u = direction / |direction|, f(a) is

    - ``project_out``: a - (a·u) u
    - ``keep_only``: (a·u) u
    - ``replace_by_mean``: mean

    x, a, y (n, t, d) are outputs of the MLP module of one block, where the paper's LoRAs write;
    every token that is run is touched, as by the LoRA itself. A LoRA on several blocks stays as it
    is at the others. Nothing is trained here: the LoRA is trained already.

    Args:
        inner: a trained LoRA.
        site: ``mlp_out`` of a block that the LoRA adapts, or its written form ("mlp_out@3").
        direction: (d,), of any length; not used by ``replace_by_mean``.
        mode: one of ``MODES``.
        mean: (d,) in the site's raw units; used by ``replace_by_mean`` only.

    Raises:
        UserError: a mode without its vector, a vector that is no direction, or a site where the
            LoRA does not write.
    """

    kind = "filtered"

    @checked
    def __init__(
        self,
        inner: LoraAdapter,
        site: Site | str,
        direction: Tensor | None,
        mode: str,
        mean: Tensor | None = None,
    ) -> None:
        self.inner, self.mode = inner, choose(mode, MODES, "mode")
        self.model_digest, self.model_name = inner.model_digest, inner.model_name
        self.site = site if isinstance(site, Site) else Site.parse(site)
        blocks = inner.blocks
        if self.site.kind != "mlp_out" or not (blocks == "all" or self.site.block in blocks):
            adapted = "all" if blocks == "all" else ", ".join(str(block) for block in blocks)
            raise UserError(
                f"At {self.site} this LoRA adds nothing that can be filtered. Allowed: mlp_out of "
                f"a block that it adapts ({adapted})."
            )
        if mode == "replace_by_mean" and inner.position != "all":
            raise UserError(
                f"Mode {mode!r} does not fit a LoRA at position {inner.position!r}: it writes at "
                "every token. Allowed: a LoRA at 'all', or another mode."
            )
        needed, value = ("mean", mean) if mode == "replace_by_mean" else ("direction", direction)
        if value is None:
            raise UserError(f"Mode {mode!r} without {needed}. Allowed: give {needed}, (d,).")
        self.direction = None if direction is None else _vector(direction, "direction")
        self.mean = None if mean is None else _vector(mean, "mean")
        if self.direction is not None:
            length = self.direction.norm()
            if float(length) == 0:
                raise UserError("A direction of length 0 is none. Allowed: any other length.")
            self.direction = self.direction / length

    def parameters(self) -> list[nn.Parameter]:
        """No parameters: nothing is trained here."""
        return []

    def parts(self) -> Parts:
        """One run without parameters."""
        return [[]]

    def attach(self, lm: LanguageModel) -> FilteredAttached:
        """Attach the LoRA and filter what it adds; if that fails, nothing is left behind.

        Raises:
            UserError: another model width, a block that the model lacks, or what the LoRA refuses.
        """
        for vector in (self.direction, self.mean):
            if vector is not None and len(vector) != lm.d_model:
                raise UserError(
                    f"A filter of width {len(vector)} does not fit {lm.name!r}. Allowed: its model "
                    f"width, {lm.d_model}."
                )
        self.refuse_other(lm)
        attached = FilteredAttached(self, lm)
        self.belong(lm, attached)
        return attached

    def filter(self, a: Tensor) -> Tensor:
        """f(a) for what the LoRA adds, (n, t, d) or any shape that ends in d."""
        if self.mode == "replace_by_mean":
            assert self.mean is not None
            return self.mean.to(a).expand_as(a)
        assert self.direction is not None
        u = self.direction.to(a)
        along = (a @ u)[..., None] * u
        return along if self.mode == "keep_only" else a - along

    def state(self) -> dict[str, Tensor]:
        """``direction`` (of length 1) and ``mean`` if given; the LoRA's state as ``inner.…``."""
        vectors = {"direction": self.direction, "mean": self.mean}
        tensors = {name: vector.clone() for name, vector in vectors.items() if vector is not None}
        return tensors | {f"{_INNER}{name}": tensor for name, tensor in self.inner.state().items()}

    def config(self) -> dict[str, Any]:
        """The LoRA's config as ``inner``, the site and the mode; JSON-able."""
        return {"inner": self.inner.config(), "site": str(self.site), "mode": self.mode}

    @classmethod
    def load(cls, path: str | os.PathLike[str], any_model: bool = False) -> Self:
        """Read what ``save`` wrote; see ``adapters.load``.

        Raises:
            UserError: another file, or one without the LoRA's weights.
        """
        tensors, config, owner = read_adapter(path, cls.kind, any_model)
        weights = {n.removeprefix(_INNER): t for n, t in tensors.items() if n.startswith(_INNER)}
        vectors = {name: t for name, t in tensors.items() if not name.startswith(_INNER)}
        if not weights:
            raise UserError(
                f"File {str(path)!r} holds no weights of the filtered LoRA. Allowed: a file as "
                "save writes it."
            )
        inner = rebuild(LoraAdapter, config.get("inner", {}), path)
        inner.restore(weights, f"File {str(path)!r}")
        adapter = rebuild(cls, {"direction": None, **config, **vectors, "inner": inner}, path)
        vars(adapter).update(owner)
        return adapter


def _vector(tensor: Tensor, name: str) -> Tensor:
    """A copy of ``tensor`` (d,) as float32 on the CPU."""
    copy = tensor.detach().cpu().float().clone()
    if copy.ndim != 1 or not bool(copy.isfinite().all()):
        raise UserError(
            f"A {name} of shape {tuple(copy.shape)} cannot be used. Allowed: finite numbers, (d,)."
        )
    return copy


class FilteredAttached(Attached):
    """The LoRA in place and one hook behind its MLP; see ``Attached``."""

    def __init__(self, adapter: Filtered, lm: LanguageModel) -> None:
        block, module = adapter.site.block, lm.module(adapter.site)
        names = [lm.projection(block, role) for role in adapter.inner.modules]
        self.positions = (adapter.inner.position,)
        with ExitStack() as undo:
            self._inner = undo.enter_context(adapter.inner.attach(lm))
            wrapped = [_Wrapped(lm.model, name) for name in names]

            def replace(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
                # The forward alone, not the module: its hooks must run only once per pass.
                with _without(wrapped):
                    base = output_tensor(module.forward(*args, **kwargs))
                change = adapter.filter((output_tensor(output) - base).float())
                return replace_output(output, base + change.to(base.dtype))

            # Before all other hooks, so that what they add at this site is never filtered.
            handle = module.register_forward_hook(replace, with_kwargs=True, prepend=True)
            undo.callback(handle.remove)
            super().__init__(undo.pop_all())

    def focus(self, batch: Batch | None, index: Tensor | None = None, *, start: int = 0) -> None:
        """See ``LoraAttached.focus``: the LoRA inside may touch marked tokens only."""
        self._inner.focus(batch, index, start=start)


class _Wrapped:
    """One linear map with a LoRA around it, and its place in the model."""

    def __init__(self, model: nn.Module, name: str) -> None:
        parent, _, self.child = name.rpartition(".")
        self.parent = model.get_submodule(parent)
        self.wrapper: Any = model.get_submodule(name)


@contextmanager
def _without(wrapped: Sequence[_Wrapped]) -> Iterator[None]:
    """Within the block the bare maps stand in place of the LoRA's wrappers."""
    try:
        for place in wrapped:
            setattr(place.parent, place.child, place.wrapper.get_base_layer())
        yield
    finally:
        for place in wrapped:
            setattr(place.parent, place.child, place.wrapper)
