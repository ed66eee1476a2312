"""Steering vectors: a trained direction added at one site, on marked tokens only.

Axes: n rows, t tokens, d model width, k vectors (runs).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, nn

from oocr_lib.adapters.base import Attached, Parts, Saved, read_adapter, rebuild
from oocr_lib.adapters.token_masks import Columns
from oocr_lib.encoding import POSITIONS, Batch
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site, output_tensor, replace_output
from oocr_lib.util.arguments import check_seed, checked
from oocr_lib.util.errors import UserError, choose


class VectorAdapter(Saved, nn.Module):
    """y[n,t] = x[n,t] + 1[position[n,t]] * scales[k] * theta[k],  k = index[n], at sites[k].

    x (n, t, d) is the site's output, theta (k, d) is trained, scales (k,) is fixed. With the
    site's typical norm as scale, learning rates and lengths of theta are in units of that norm.
    The k runs may sit at different sites and share one batch: a row of run k is touched at
    sites[k] only. The paper trains one vector at the MLP output of one block.

    Args:
        sites: k sites, or their written form ("resid@3").
        d_model: d.
        position: which tokens, one of ``encoding.POSITIONS``.
        scales: k positive numbers, raw length of a theta of length 1.
        seed: run i starts from seed + i; or k seeds. The global generator is not used.
        init: length of the Gaussian start of each theta, in units of the scale; 0 gives zeros.
    """

    kind = "vector"

    @checked
    def __init__(
        self,
        sites: Sequence[Site | str],
        d_model: int,
        position: str,
        scales: Sequence[float],
        seed: int | Sequence[int] = 0,
        init: float = 0.0,
    ) -> None:
        super().__init__()
        seeds = [seed + i for i in range(len(sites))] if isinstance(seed, int) else list(seed)
        for number in seeds:
            check_seed(number)
        if not sites or not len(sites) == len(scales) == len(seeds):
            raise UserError(
                f"{len(sites)} sites, {len(scales)} scales and {len(seeds)} seeds do not fit. "
                "Allowed: the same number of each, at least 1."
            )
        if d_model < 1:
            raise UserError(f"Width {d_model} cannot be used. Allowed: the model's, 1 or more.")
        if not all(0 < scale < float("inf") for scale in scales):
            raise UserError(f"Scales {list(scales)} cannot be used. Allowed: positive numbers.")
        if not 0 <= init < float("inf"):
            raise UserError(f"Initial length {init!r} cannot be used. Allowed: 0 or more.")
        self.sites = tuple(s if isinstance(s, Site) else Site.parse(s) for s in sites)
        self.d_model = d_model
        self.position = choose(position, POSITIONS, "position")
        self._config = {
            "sites": [str(site) for site in self.sites],
            "d_model": d_model,
            "position": position,
            "scales": [float(scale) for scale in scales],
            "seed": [int(s) for s in seeds],
            "init": float(init),
        }
        self.theta = nn.Parameter(torch.stack([_start(s, d_model, init) for s in seeds]))
        self.scales: Tensor
        self.register_buffer("scales", torch.tensor([float(s) for s in scales]))

    @property
    def vectors(self) -> Tensor:
        """What is actually added: scales * theta (k, d), in the site's raw units; no gradient."""
        return (self.scales[:, None] * self.theta).detach()

    def parts(self) -> Parts:
        """Run k is row k of theta; see ``Adapter.parts``."""
        return [[(self.theta, k)] for k in range(len(self.sites))]

    def attach(self, lm: LanguageModel) -> VectorAttached:
        """Hook each distinct site of ``lm``. Nothing can be run before ``focus``.

        Raises:
            UserError: another model width, another model than before, or a block that it lacks.
        """
        if lm.d_model != self.d_model:
            raise UserError(
                f"Vectors of width {self.d_model} do not fit {lm.name!r}. Allowed: its model "
                f"width, {lm.d_model}."
            )
        self.refuse_other(lm)
        attached = VectorAttached(self, lm)
        self.belong(lm, attached)
        return attached

    def state(self) -> dict[str, Tensor]:
        """{"theta": (k, d)} on the CPU."""
        return {"theta": self.theta.detach().cpu().clone()}

    def config(self) -> dict[str, Any]:
        """Arguments of the constructor, JSON-able."""
        return dict(self._config)

    @classmethod
    def load(cls, path: str | os.PathLike[str], any_model: bool = False) -> Self:
        """Read what ``save`` wrote; see ``adapters.load``.

        Raises:
            UserError: anything else, with the reason.
        """
        tensors, config, owner = read_adapter(path, cls.kind, any_model)
        adapter = rebuild(cls, config, path)
        theta, shape = tensors.get("theta"), tuple(adapter.theta.shape)
        if theta is None or len(tensors) > 1 or tuple(theta.shape) != shape:
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            raise UserError(f"File {str(path)!r} holds {shapes}. Allowed: theta of shape {shape}.")
        with torch.no_grad():
            adapter.theta.copy_(theta)
        vars(adapter).update(owner)
        return adapter


def _start(seed: int, d_model: int, length: float) -> Tensor:
    """A Gaussian direction (d,) of the given length, from a generator of its own."""
    direction = torch.randn(d_model, generator=torch.Generator().manual_seed(seed))
    return direction * (length / direction.norm())


class VectorAttached(Attached):
    """Hooks of one VectorAdapter on one model; see ``Attached``.

    Everything that depends on the batch alone is computed in ``focus``; a hook gathers theta,
    multiplies and adds, out of place.
    """

    def __init__(self, adapter: VectorAdapter, lm: LanguageModel) -> None:
        self._adapter = adapter
        self.positions = (adapter.position,)
        self._device = lm.device
        self._sites = sorted(set(adapter.sites))
        self._focused = False
        self._index: Tensor | None = None  # (n, 1) or, packed, (n, t) int64; None: switched off
        self._weights: dict[Site, Tensor | None] = {}  # (n, t) mask * scale; None: no row here
        self._tails: dict[Site, Tensor] = {}  # (n, 1) weight of tokens generated later
        adapter.to(lm.device)
        site_of_run = torch.tensor([self._sites.index(s) for s in adapter.sites])
        self._site_of_run = site_of_run.to(lm.device)
        with ExitStack() as undo:
            self._columns = Columns(lm, undo)
            for site in self._sites:
                handle = lm.module(site).register_forward_hook(self._hook(site))
                undo.callback(handle.remove)
            super().__init__(undo.pop_all())

    def focus(self, batch: Batch | None, index: Tensor | None = None, *, start: int = 0) -> None:
        """See ``Attached.focus``.

        During cached generation the tokens after the batch's last column are steered only for
        position "all".

        Raises:
            UserError: an index of another shape or outside the k vectors.
        """
        self._focused, self._index = batch is None, None
        if batch is None:
            return
        self._columns.focus(batch, start)
        adapter = self._adapter
        mask = batch.positions[adapter.position].to(self._device)
        rows = batch.items
        index = torch.zeros(rows, dtype=torch.int64) if index is None else index
        k = len(adapter.sites)
        fits = index.shape == (rows,) and index.dtype == torch.int64
        if not fits or int(index.min()) < 0 or int(index.max()) >= k:
            raise UserError(
                f"Index {index.tolist()} ({index.dtype}) does not fit {rows} rows and {k} vectors. "
                f"Allowed: {rows} int64 numbers from 0 to {k - 1}."
            )
        index = batch.of_items(index.to(self._device))
        scale, row_site = adapter.scales[index], self._site_of_run[index]
        for number, site in enumerate(self._sites):
            here = row_site == number
            self._weights[site] = mask * (scale * here) if bool(here.any()) else None
            # Packed rows are never continued.
            self._tails[site] = (scale * here * (adapter.position == "all" and not batch.packed))[
                :, :1
            ]
        self._index, self._focused = index, True

    def _hook(self, site: Site) -> Callable[[nn.Module, Any, Any], Any]:
        def add(module: nn.Module, args: Any, output: Any) -> Any:
            if not self._focused:
                raise UserError(
                    "An attached vector was run before it knew its tokens. Call focus(batch) "
                    "first, or focus(None) to run without it."
                )
            weights = None if self._index is None else self._weights[site]
            if self._index is None or weights is None:
                return None
            hidden = output_tensor(output)
            weight = self._columns.of(weights, self._tails[site], hidden)
            index = self._index[: len(hidden), : hidden.shape[1]]
            theta = self._adapter.theta.index_select(0, index.flatten())
            added = weight[..., None] * theta.view(*index.shape, -1)
            return replace_output(output, hidden + added.to(hidden.dtype))

        return add
