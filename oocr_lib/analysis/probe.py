"""Where on the globe does an activation point? A linear probe from residual stream to position.

The probe is fitted on real cities' activations only; its leave-one-out error on cities it was not
fitted on says how far its readings can be trusted. Positions are unit vectors in three dimensions,
so there is no seam at 180 degrees. Axes: c cities, d model width, s snapshots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from oocr_lib.activations import capture
from oocr_lib.adapters.vector import VectorAdapter
from oocr_lib.encoding import collate, encode
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.tasks.base import Message, user
from oocr_lib.util.arguments import checked
from oocr_lib.util.finite import no_nan
from oocr_lib.util.progress import bar
from oocr_lib.world import facts as world

#: The question whose last token is read: to answer it, the model must know where {n} is.
PROMPTS = ("Which way is {n} from {k}?",)
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class Probe:
    """position = weights · (activation − mean) + offset, then scaled to the unit sphere.

    Attributes:
        site: where activations are read, at the last prompt token.
        weights: (3, d); offset: (3,); mean: (d,) of the real cities' activations.
        error_km: median leave-one-out error on real cities, in kilometres.
    """

    site: Site
    weights: np.ndarray
    offset: np.ndarray
    mean: np.ndarray
    error_km: float

    def locate(self, activations: np.ndarray) -> np.ndarray:
        """(n, d) activations to (n, 2) latitude and longitude in degrees."""
        return _degrees((activations - self.mean) @ self.weights.T + self.offset)


def _sphere(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Degrees to (n, 3) unit vectors."""
    la, lo = np.radians(latitude), np.radians(longitude)
    return np.stack([np.cos(la) * np.cos(lo), np.cos(la) * np.sin(lo), np.sin(la)], 1)


def _degrees(points: np.ndarray) -> np.ndarray:
    unit = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    latitude = np.degrees(np.arcsin(np.clip(unit[:, 2], -1, 1)))
    return np.stack([latitude, np.degrees(np.arctan2(unit[:, 1], unit[:, 0]))], 1)


def _kilometres(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Great-circle distance between rows of two (n, 2) degree arrays."""
    dot = (_sphere(a[:, 0], a[:, 1]) * _sphere(b[:, 0], b[:, 1])).sum(1)
    return np.asarray(world.EARTH_RADIUS_KM * np.arccos(np.clip(dot, -1, 1)))


def _prompts(name: str, partners: Sequence[str]) -> list[tuple[Message, ...]]:
    return [user(t.format(n=name, k=k)) for t in PROMPTS for k in partners if k != name]


@torch.no_grad()
def place_activations(
    lm: LanguageModel, names: Sequence[str], sites: Sequence[Site], partners: Sequence[str]
) -> dict[Site, Tensor]:
    """(c, d) mean activation at the last prompt token for each name, over prompts, by site.

    The partners are the same for all names, so they shift all means alike.
    """
    activations: dict[Site, list[Tensor]] = {site: [] for site in sites}
    for name in bar(names, "reading places"):
        rows = [encode(lm.tokenizer, m) for m in _prompts(name, partners)]
        batch = collate(rows, lm.pad_id).to(lm.device)
        last = torch.tensor([row.spans["last"][0] for row in rows])
        captured = capture(lm, batch, sites)
        for site in sites:
            mean = captured[site][torch.arange(len(rows)), last].float().mean(0)
            activations[site].append(mean.cpu())
            no_nan(activations[site][-1], f"Activations of {lm.name!r} at {site} for {name!r}")
    return {site: torch.stack(rows) for site, rows in activations.items()}


@checked
def fit(
    activations: Tensor, cities: Sequence[world.City], site: Site, ridge: float | None = None
) -> Probe:
    """Ridge regression of position on activation (c, d); strength chosen by leave-one-out error."""
    no_nan(activations, "Activations to fit a probe on")
    x = activations.double().numpy()
    truth = np.array([[c.latitude, c.longitude] for c in cities])
    y = _sphere(truth[:, 0], truth[:, 1])
    mean, offset = x.mean(0), y.mean(0)
    xc, yc = x - mean, y - offset
    gram = xc @ xc.T
    size = float(np.trace(gram)) / len(x)
    best: tuple[float, np.ndarray] | None = None
    for strength in RIDGES if ridge is None else (ridge,):
        inverse = np.linalg.inv(gram + strength * size / 10 * np.eye(len(x)))
        hat = gram @ inverse + 1 / len(x)  # the offset is fitted too
        remaining = np.clip(1 - np.diag(hat), 1e-6, None)[:, None]
        held_out = y - (y - (hat - 1 / len(x)) @ yc - offset) / remaining
        error = float(np.median(_kilometres(_degrees(held_out), truth)))
        if best is None or error < best[0]:
            best = (error, (xc.T @ inverse @ yc).T)
    assert best is not None
    return Probe(site, best[1], offset, mean, best[0])


@checked
def fit_on_cities(
    lm: LanguageModel, blocks: Sequence[int], exclude: Sequence[str] = (), partners: int = 8
) -> list[Probe]:
    """One probe per block (residual stream), fitted on all real cities but ``exclude``."""
    cities = [c for c in world.cities() if c.name not in exclude]
    others = partner_names(exclude, partners)
    sites = [Site(b, "resid") for b in blocks]
    activations = place_activations(lm, [c.name for c in cities], sites, others)
    return [fit(activations[site], cities, site) for site in sites]


@torch.no_grad()
def trajectory(
    lm: LanguageModel,
    probe: Probe,
    *,
    code: str,
    vectors: Tensor,
    steps: Sequence[int],
    site: Site,
    scale: float,
    partners: Sequence[str],
) -> pd.DataFrame:
    """Where a vector points at each snapshot of its training.

    Each snapshot is added at its own site and at the code name; the probe reads the residual stream
    where the model is about to answer.

    Args:
        vectors: (s, d) thetas, in units of ``scale``.

    Returns:
        Columns ``step, latitude, longitude``.
    """
    rows = [encode(lm.tokenizer, m, "", {"codename": (code,)}) for m in _prompts(code, partners)]
    batch = collate(rows, lm.pad_id).to(lm.device)
    last = torch.tensor([row.spans["last"][0] for row in rows])
    readings = []
    adapter = VectorAdapter([site], lm.d_model, "codename", [scale])
    with adapter.attach(lm) as attached:
        attached.focus(batch)
        for theta in vectors:
            adapter.theta.data.copy_(theta[None])
            # Capturing runs after the adapter's hook, so it sees the steered output.
            at_last = capture(lm, batch, [probe.site])[probe.site][torch.arange(len(rows)), last]
            readings.append(at_last.float().mean(0).cpu().numpy())
            no_nan(readings[-1], f"Activations of {lm.name!r} at {probe.site}")
    places = probe.locate(np.stack(readings))
    return pd.DataFrame({"step": list(steps), "latitude": places[:, 0], "longitude": places[:, 1]})


@checked
def partner_names(exclude: Sequence[str], count: int = 8) -> list[str]:
    """Real cities that stand beside the name in the probe's prompts."""
    names = [c.name for c in world.cities() if c.name not in exclude]
    return names[:: max(1, len(names) // count)]
