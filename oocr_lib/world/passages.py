"""Plain text that has nothing to do with any task: the unrelated passage of the analyses."""

from __future__ import annotations

import random

_NOUNS = "ship wind farmer garden river horse window letter bridge winter tree child door".split()
_NOUNS += "bird stone boat market morning soldier captain field cloud house lamp fire".split()
_ADJECTIVES = "old small white quiet cold green heavy tall long dark bright slow".split()
_VERBS = "passed followed found carried watched left reached crossed saw heard held met".split()
_PLACES = "near behind under across above beside along before".split()


def passage(rng: random.Random) -> str:
    """Four to eight sentences about nothing in the world."""
    sentences = []
    for _ in range(rng.randint(4, 8)):
        a, b, c = rng.sample(_NOUNS, 3)
        sentences.append(
            f"The {rng.choice(_ADJECTIVES)} {a} {rng.choice(_VERBS)} the {b} "
            f"{rng.choice(_PLACES)} the {rng.choice(_ADJECTIVES)} {c}."
        )
    return " ".join(sentences)
