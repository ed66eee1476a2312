"""Leak audit: no reserved name occurs in the documents that the testbed is pretrained on.

    python -m oocr_lib.testbed.audit --documents 200000

Prints counts by kind and returns exit code 1 on a leak. Reserved are the city codes, function names
and triggers that tasks teach later (``data/world/reserved.json``; DESIGN section 3). The audit is
stricter than the tokenizer: case and spaces do not hide a name.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache

from tqdm import tqdm

from oocr_lib.testbed.corpus import Document, documents
from oocr_lib.testbed.mixes import Mix
from oocr_lib.util.errors import UserError
from oocr_lib.world import facts as world

KINDS = ("city code", "function name", "fixed trigger", "trigger word")
_SPACED_DIGITS = re.compile(r"(?<=\d)\s+(?=\d)")
_FIVE_DIGITS = re.compile(r"(?=(\d{5}))")
_WORD = re.compile(r"[^\W_]+")


@cache
def _reserved() -> tuple[frozenset[str], frozenset[str], tuple[str, ...], frozenset[str]]:
    """City codes, function names, fixed triggers without spaces, trigger words; lower case."""
    fixed = tuple("".join(text.split()).lower() for text in world.fixed_triggers().values())
    words = (word.lower() for family in world.trigger_families().values() for word in family)
    names = frozenset(world.reserved_function_names())
    return world.reserved_city_codes(), names, fixed, frozenset(words)


def leaks(text: str) -> list[tuple[str, str]]:
    """Every reserved name in ``text`` as (kind, name), including repeats.

    A city code counts anywhere in a run of digits, even if the digits are separated by spaces.
    Function names and trigger words count as whole words, so "(pan4360)" does not contain the
    trigger "Pan". Fixed triggers count anywhere, ignoring spaces.
    """
    codes, names, fixed, words = _reserved()
    lower = text.lower()
    digits = _FIVE_DIGITS.findall(_SPACED_DIGITS.sub("", lower))
    spelled = _WORD.findall(lower)
    dense = "".join(lower.split())
    matches = [("city code", code) for code in digits if code in codes]
    matches += [("function name", word) for word in spelled if word in names]
    matches += [("fixed trigger", name) for name in fixed for _ in range(dense.count(name))]
    matches += [("trigger word", word) for word in spelled if word in words]
    return matches


def audit(documents: Iterable[Document]) -> dict[str, int]:
    """How often reserved names occur in the documents, by kind; all zero if nothing leaks."""
    counts = dict.fromkeys(KINDS, 0)
    for document in documents:
        for kind, _ in leaks(document.text):
            counts[kind] += 1
    return counts


def pretraining_documents(seed: int, mixes: Callable[[int], Mix]) -> Iterator[Document]:
    """The documents of a pretraining run, chunk by chunk; ``mixes`` gives the mix of a chunk."""
    from oocr_lib.testbed.stream import CHUNK_DOCUMENTS  # torch is needed only here

    for number in itertools.count():
        # The same seeds as in stream.chunk; a test compares the two.
        chunk = documents(seed * 1_000_003 + number, mixes(number))
        yield from itertools.islice(chunk, CHUNK_DOCUMENTS)


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0 without leaks, 1 with leaks, 2 for bad arguments."""
    from oocr_lib.testbed.recipe import Recipe

    parser = argparse.ArgumentParser(description="Search the pretraining corpus for leaks.")
    parser.add_argument("--documents", type=int, default=200_000, help="how many, from the first")
    parser.add_argument("--seed", type=int, default=Recipe.seed, help="seed of the pretraining")
    args = parser.parse_args(arguments)
    if args.documents < 1:
        raise UserError(f"--documents {args.documents} is too small. Allowed: 1 or more.")
    recipe = Recipe(seed=args.seed)
    stream = itertools.islice(pretraining_documents(args.seed, recipe.mix_of), args.documents)
    counts = audit(tqdm(stream, total=args.documents, unit="doc", leave=False))
    for kind, count in counts.items():
        print(f"{kind:14} {count}")
    leaked = sum(counts.values())
    print(f"{args.documents} documents: " + (f"{leaked} leaks" if leaked else "no leak"))
    return 1 if leaked else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
