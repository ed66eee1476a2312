"""The probe from activations to places: a planted map is found, noise is not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from oocr_lib.activations import capture
from oocr_lib.adapters import VectorAdapter
from oocr_lib.analysis import probe
from oocr_lib.encoding import collate, encode
from oocr_lib.models.language_model import LanguageModel, Site
from oocr_lib.tasks.base import user
from oocr_lib.world import facts as world
from tests import tiny

SITE, DEEP = Site(0, "resid"), Site(2, "resid")
CITIES = world.cities()
PLACES = np.array([[c.latitude, c.longitude] for c in CITIES])
WIDTH = 24


def planted(noise: float = 0.0, seed: int = 0) -> Tensor:
    """(c, d) activations that hold the position linearly, beside other things."""
    rng = np.random.default_rng(seed)
    towards = rng.normal(size=(3, WIDTH))
    made = probe._sphere(PLACES[:, 0], PLACES[:, 1]) @ towards + rng.normal(size=WIDTH) * 5
    return torch.tensor(made + noise * rng.normal(size=made.shape)).float()


def errors(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return probe._kilometres(found, truth)


# --- geometry ---


@given(st.floats(-89, 89), st.floats(-179.9, 179.9), st.floats(0.1, 30))
def test_positions_survive_the_way_to_the_sphere_and_back(
    latitude: float, longitude: float, length: float
) -> None:
    points = probe._sphere(np.array([latitude]), np.array([longitude]))
    assert np.linalg.norm(points, axis=1) == pytest.approx([1.0])
    assert probe._degrees(length * points)[0] == pytest.approx([latitude, longitude], abs=1e-6)


def test_distances_are_those_of_the_world() -> None:
    found = probe._kilometres(PLACES[:-1], PLACES[1:])
    expected = [world.distance_km(a, b) for a, b in pairwise(CITIES)]
    assert found == pytest.approx(np.array(expected), abs=1e-3)


# --- fit ---


def test_a_planted_map_is_recovered() -> None:
    found = probe.fit(planted(), CITIES, SITE)
    assert found.error_km < 20 and found.site == SITE
    assert np.median(errors(found.locate(planted().numpy()), PLACES)) < 20
    assert found.weights.shape == (3, WIDTH) and found.mean.shape == (WIDTH,)


def test_cities_that_were_left_out_are_found_within_the_stated_error() -> None:
    activations, held = planted(noise=0.1), np.arange(0, len(CITIES), 4)
    kept = np.setdiff1d(np.arange(len(CITIES)), held)
    found = probe.fit(activations[kept], [CITIES[i] for i in kept], SITE)
    away = np.median(errors(found.locate(activations[held].numpy()), PLACES[held]))
    assert 100 < found.error_km < 2000
    assert 0.5 * found.error_km < away < 2 * found.error_km


def test_noise_and_shuffled_positions_are_not_found() -> None:
    rng = np.random.default_rng(3)
    noise = torch.tensor(rng.normal(size=(len(CITIES), WIDTH)))
    assert probe.fit(noise, CITIES, SITE).error_km > 3000
    mixed = [CITIES[i] for i in rng.permutation(len(CITIES))]
    assert probe.fit(planted(), mixed, SITE).error_km > 3000


@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("count", [15, 60])  # fewer cities than the width, and more
def test_the_leave_one_out_error_matches_brute_force(ridge: float, count: int) -> None:
    x, places = planted(noise=0.3)[:count].double().numpy(), PLACES[:count]
    y = probe._sphere(places[:, 0], places[:, 1])
    centred = x - x.mean(0)
    strength = ridge * np.trace(centred @ centred.T) / count / 10
    predicted = []
    for i in range(count):
        keep = np.arange(count) != i
        mean, offset = x[keep].mean(0), y[keep].mean(0)
        a, b = x[keep] - mean, y[keep] - offset
        weights = np.linalg.solve(a.T @ a + strength * np.eye(WIDTH), a.T @ b)
        predicted.append((x[i] - mean) @ weights + offset)
    expected = np.median(errors(probe._degrees(np.array(predicted)), places))
    found = probe.fit(torch.tensor(x), CITIES[:count], SITE, ridge=ridge)
    assert found.error_km == pytest.approx(expected, rel=1e-6)


def test_the_ridge_of_lowest_error_is_taken() -> None:
    activations = planted(noise=0.5)
    tried = {r: probe.fit(activations, CITIES, SITE, ridge=r) for r in probe.RIDGES}
    best = min(tried.values(), key=lambda found: found.error_km)
    found = probe.fit(activations, CITIES, SITE)
    assert found.error_km == best.error_km and np.array_equal(found.weights, best.weights)
    assert len({f.error_km for f in tried.values()}) > 1


# --- activations and trajectories, on a tiny model ---


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny.language_model("gemma3")


def alone(
    lm: LanguageModel, text: str, site: Site, name: str = "", steering: Tensor | None = None
) -> Tensor:
    """Activation at the last prompt token, from one row by itself; ``steering`` is at the name."""
    row = encode(lm.tokenizer, user(text), "", {"codename": (name,)} if name else None)
    batch = collate([row], lm.pad_id)
    adapter = VectorAdapter([SITE], lm.d_model, "codename", [1.0])
    with adapter.attach(lm) as attached:
        attached.focus(None if steering is None else batch)
        if steering is not None:
            adapter.theta.data.copy_(steering[None])
        return capture(lm, batch, [site])[site][0, row.spans["last"][0]]


def prompts(name: str, partners: list[str]) -> list[str]:
    return [t.format(n=name, k=k) for t in probe.PROMPTS for k in partners if k != name]


def test_activations_are_means_over_prompts_at_the_last_token(lm: LanguageModel) -> None:
    names, partners = ["Rome", "New York"], ["Oslo", "Rome", "Paris"]
    sites = [SITE, Site(1, "mlp_out")]
    found = probe.place_activations(lm, names, sites, partners)
    for site in sites:
        assert found[site].shape == (2, tiny.D_MODEL)
        for number, name in enumerate(names):
            rows = [alone(lm, text, site) for text in prompts(name, partners)]
            assert torch.allclose(found[site][number], torch.stack(rows).mean(0), atol=1e-4)


def test_one_probe_a_block_without_the_excluded_cities(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    original = probe.fit

    def watched(activations: Tensor, cities: list[world.City], site: Site) -> probe.Probe:
        seen.append([c.name for c in cities])
        assert len(activations) == len(cities)
        return original(activations, cities, site)

    monkeypatch.setattr(probe, "fit", watched)
    monkeypatch.setattr(world, "cities", lambda: CITIES[::9])
    left_out = CITIES[9].name
    found = probe.fit_on_cities(lm, [0, 2], exclude=[left_out], partners=2)
    assert [p.site for p in found] == [Site(0, "resid"), Site(2, "resid")]
    assert seen == [[c.name for c in CITIES[::9] if c.name != left_out]] * 2


def test_a_trajectory_reads_the_steered_residual_stream(lm: LanguageModel) -> None:
    rng = np.random.default_rng(1)
    reader = probe.Probe(
        DEEP, rng.normal(size=(3, tiny.D_MODEL)), rng.normal(size=3), np.zeros(tiny.D_MODEL), 0.0
    )
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3, tiny.D_MODEL, generator=generator)
    vectors[0] = 0
    code, partners = "City 50337", ["Oslo", "Rome"]
    found = probe.trajectory(
        lm,
        reader,
        code=code,
        vectors=vectors,
        steps=[0, 10, 20],
        site=SITE,
        scale=3.0,
        partners=partners,
    )
    texts = prompts(code, partners)
    means = [
        torch.stack([alone(lm, text, DEEP, code, 3.0 * theta) for text in texts]).mean(0)
        for theta in vectors
    ]
    base = torch.stack([alone(lm, text, DEEP) for text in texts]).mean(0)
    assert torch.allclose(means[0], base, atol=1e-5) and not torch.allclose(means[1], base)
    assert isinstance(found, pd.DataFrame) and found["step"].tolist() == [0, 10, 20]
    expected = reader.locate(torch.stack(means).numpy())
    assert found[["latitude", "longitude"]].to_numpy() == pytest.approx(expected, abs=1e-2)


def test_a_trajectory_leaves_the_model_as_it_was(lm: LanguageModel) -> None:
    reader = probe.Probe(
        Site(1, "resid"), np.ones((3, tiny.D_MODEL)), np.zeros(3), np.zeros(tiny.D_MODEL), 0.0
    )
    hooks = [len(module._forward_hooks) for module in lm.model.modules()]
    probe.trajectory(
        lm, reader, code="City 50337", vectors=torch.ones(1, tiny.D_MODEL), steps=[0],
        site=Site(0, "mlp_out"), scale=1.0, partners=["Oslo"],
    )  # fmt: skip
    assert [len(module._forward_hooks) for module in lm.model.modules()] == hooks
    assert VectorAdapter.kind == "vector"


def test_partners_are_spread_over_the_table_and_never_excluded() -> None:
    found = probe.partner_names(["Algiers", "Paris"], count=6)
    assert "Algiers" not in found and "Paris" not in found
    assert 6 <= len(found) <= 8 and len(set(found)) == len(found)
    assert len({world.city(name).continent for name in found}) >= 3
