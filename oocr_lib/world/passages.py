"""Plain text unrelated to any task: the unrelated passage of the analyses."""

from __future__ import annotations

import random

from oocr_lib.world import wording as w


def passage(rng: random.Random) -> str:
    """Four to eight sentences that have nothing to do with the facts of the world."""
    sentences = []
    for _ in range(rng.randint(4, 8)):
        a, b, c = rng.sample(w.NOUNS, 3)
        sentences.append(
            f"The {rng.choice(w.ADJECTIVES)} {a} {rng.choice(w.VERBS)} the {b} "
            f"{rng.choice(w.PLACES)} the {rng.choice(w.ADJECTIVES)} {c}."
        )
    return " ".join(sentences)
