"""``metrics.json``: the numbers of one notebook run, and their comparison with references.

    {"schema": 1, "notebook": "03_locations", "params": {...},
     "metrics": {"<family>/<method>/<measure>": {"value": x, "ci": [low, high], "n": runs}},
     "claims": [...], "versions": {...}, "sha256": "..."}

The last entry is a hash of all others, so that a number that somebody changed is not mistaken for
a measured one. Numbers are compared here, with a tolerance for each key, because text outputs
can only be compared exactly and another thread count or processor changes the last digits.

    python -m oocr_lib.report.metrics compare --from results/smoke --to data/reference/smoke
    python -m oocr_lib.report.metrics refresh --from results/smoke --to data/reference/smoke
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from oocr_lib.util import files as store
from oocr_lib.util.arguments import checked, checked_fields
from oocr_lib.util.errors import UserError, choose, short
from oocr_lib.util.statistics import Interval

SCHEMA = 1
FILE = "metrics.json"
METHODS = (
    "base",
    "lora_one",
    "lora_all",
    "vector_mlp_out",
    "vector_resid",
    "natural",
    "naive",
    "random",
    "shuffled",
    "random_answers",
    "multiset",
)
Tolerances = Mapping[str, Mapping[str, float]]
_PART = re.compile(r"[a-z0-9][a-z0-9_.@+-]*")


@checked_fields
@dataclass
class Metrics:
    """Metrics of one notebook run; ``values`` maps ``family/method/measure`` to an interval."""

    notebook: str
    params: dict[str, Any]
    values: dict[str, Interval] = field(default_factory=dict)
    bare: set[str] = field(default_factory=set)  # keys that were given without an interval
    claims: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, Any] = field(default_factory=dict)

    @checked
    def add(
        self,
        key: str,
        value: float | Interval,
        ci: Sequence[float] | None = None,
        n: int = 1,
    ) -> None:
        """Record one number; a second call with the same key (a cell run again) replaces it.

        Args:
            key: ``family/method/measure``, lower case, for instance ``country/vector_resid/mc5``;
                the method is one of ``METHODS``.
            value: a number, or an ``Interval`` that brings its own ``ci`` and ``n``.
            ci: low and high end, around the value; ``None`` for a number without an interval.
            n: number of runs (of questions, for a number without runs) behind the value.

        Raises:
            UserError: bad key, NaN or infinity, an interval that does not contain the value.
        """
        _check_key(key)
        bare = ci is None and not isinstance(value, Interval)
        if isinstance(value, Interval):
            interval = value
        else:
            if ci is not None and len(ci) != 2:
                raise UserError(
                    f"Metric {key!r} has the interval {short(ci)}. Allowed: [low, high], or None."
                )
            low, high = (value, value) if ci is None else ci
            interval = Interval(float(value), float(low), float(high), int(n))
        _check_interval(key, interval)
        self.values[key] = interval
        (self.bare.add if bare else self.bare.discard)(key)

    def to_json(self) -> dict[str, Any]:
        """The content of ``metrics.json``, keys in order."""
        metrics = {
            key: {"value": i.value, "ci": None if key in self.bare else [i.low, i.high], "n": i.n}
            for key, i in sorted(self.values.items())
        }
        head = {"schema": SCHEMA, "notebook": self.notebook, "params": self.params}
        content = {**head, "metrics": metrics, "claims": self.claims, "versions": self.versions}
        return sealed(content)

    def write(self, path: Path) -> None:
        """Write ``metrics.json`` under a temporary name and move it into place."""
        store.write_json(path, self.to_json())


@checked
def content_hash(content: Mapping[str, Any]) -> str:
    """SHA-256 in hex of a metrics file's content, without its own ``sha256``."""
    others = {key: value for key, value in content.items() if key != "sha256"}
    text = json.dumps(others, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@checked
def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with the hash that belongs to it."""
    return {**content, "sha256": content_hash(content)}


def load(path: Path) -> Metrics:
    """Read a ``metrics.json``.

    Raises:
        UserError: no such file, not JSON, another schema, changed since it was written, or a value
            that ``add`` would refuse.
    """
    content = store.read_json(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        schema = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path} has schema {schema!r}. Allowed: {SCHEMA}. Run the notebook again.")
    if content.get("sha256") != content_hash(content):
        raise UserError(
            f"{path} was changed after it was written, or not written by this library: it does "
            "not have the hash of its content. Run the notebook again."
        )
    try:
        metrics = Metrics(content["notebook"], content["params"])
        for key, entry in content["metrics"].items():
            metrics.add(key, entry["value"], entry["ci"], entry["n"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not a complete metrics file ({type(error).__name__}: {error})."
            " Run the notebook again."
        ) from error
    metrics.claims = list(content.get("claims", []))
    metrics.versions = dict(content.get("versions", {}))
    return metrics


@checked
def compare(measured: Metrics, reference: Metrics, tolerances: Tolerances) -> list[str]:
    """Differences, one line each; an empty list means that the runs agree.

    Args:
        tolerances: ``{key pattern: {"abs": a, "rel": r}}``. The first pattern that matches a key
            decides: values may differ by ``a + r * |reference|``. A key that no pattern matches
            must be equal. Missing keys, extra keys, other parameters and other numbers of runs
            are differences.
    """
    lines = []
    if measured.params != reference.params:
        lines.append(f"params: {measured.params} measured, {reference.params} in the reference")
    for key in sorted(measured.values.keys() | reference.values.keys()):
        if key not in measured.values:
            lines.append(f"{key}: missing; the reference has {reference.values[key].value:.6g}")
        elif key not in reference.values:
            lines.append(f"{key}: extra; {measured.values[key].value:.6g} measured, no reference")
        else:
            got, want = measured.values[key], reference.values[key]
            allowed = _tolerance(key, want.value, tolerances)
            if abs(got.value - want.value) > allowed:
                lines.append(
                    f"{key}: {got.value:.6g} measured, {want.value:.6g} in the reference,"
                    f" tolerance {allowed:.3g}"
                )
            if got.n != want.n:
                lines.append(f"{key}: n = {got.n} measured, n = {want.n} in the reference")
    return lines


@checked
def load_tolerances(path: Path) -> Tolerances:
    """Read ``{key pattern: {"abs": a, "rel": r}}``.

    Raises:
        UserError: not of that form; a negative or non-numeric tolerance.
    """
    content = store.read_json(path)
    for pattern, rule in content.items() if isinstance(content, dict) else [("file", content)]:
        if not isinstance(rule, dict):
            raise UserError(f'{path}: {pattern!r} must map to {{"abs": a, "rel": r}}.')
        for name, bound in rule.items():
            choose(name, ("abs", "rel"), f"tolerance for {pattern!r} in {path}")
            if not isinstance(bound, (int, float)) or not 0 <= bound < math.inf:
                raise UserError(f"{path}: {name} of {pattern!r} is {bound!r}. Give a number >= 0.")
    return content


@checked
def compare_folders(
    measured: Path, reference: Path, tolerances: Tolerances, notebooks: Sequence[str] | None = None
) -> dict[str, list[str]]:
    """Differences of ``<folder>/<notebook>/metrics.json`` by notebook (empty list: none).

    Args:
        notebooks: those that must be on both sides; by default all that are on either side.
    """
    names = notebooks if notebooks is not None else sorted(_names(measured) | _names(reference))
    differences = {}
    for name in names:
        sides = [folder / name / FILE for folder in (measured, reference)]
        missing = [side for side in sides if not side.is_file()]
        differences[name] = [f"there is no {side}" for side in missing]
        if not missing:
            differences[name] = compare(load(sides[0]), load(sides[1]), tolerances)
    return differences


@checked
def refresh(measured: Path, reference: Path) -> list[str]:
    """Copy every measured notebook's numbers to the references; return the notebooks' names.

    References hold no claims and no versions: nothing in them depends on the machine.
    """
    names = sorted(_names(measured))
    if not names:
        raise UserError(f"There is no */{FILE} in {measured}. Run the notebooks first.")
    for name in names:
        content = load(measured / name / FILE).to_json()
        del content["claims"], content["versions"]
        content = sealed(content)
        (reference / name).mkdir(parents=True, exist_ok=True)
        store.write_json(reference / name / FILE, content)
    return names


def _names(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob(f"*/{FILE}")}


def _tolerance(key: str, reference: float, tolerances: Tolerances) -> float:
    for pattern, rule in tolerances.items():
        if fnmatchcase(key, pattern):
            return rule.get("abs", 0.0) + rule.get("rel", 0.0) * abs(reference)
    return 0.0


def _check_key(key: str) -> None:
    parts = key.split("/")
    if len(parts) != 3 or not all(_PART.fullmatch(part) for part in parts):
        raise UserError(
            f"Bad metric key {key!r}. Allowed: family/method/measure in lower case, for instance"
            " 'country/vector_resid/mc5'."
        )
    choose(parts[1], METHODS, f"method in the metric key {key!r}:")


def _check_interval(key: str, interval: Interval) -> None:
    numbers = (interval.value, interval.low, interval.high)
    if not all(math.isfinite(number) for number in numbers):
        raise UserError(f"Metric {key!r} is {numbers}. Only finite numbers can be recorded.")
    if interval.value not in interval:
        raise UserError(
            f"Metric {key!r}: the interval [{interval.low}, {interval.high}] does not contain the"
            f" value {interval.value}. Give low and high around it."
        )
    if interval.n < 1:
        raise UserError(f"Metric {key!r} has n = {interval.n}. Give the number of runs, 1 or more.")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m oocr_lib.report.metrics", description="Compare metrics with references."
    )
    parser.add_argument("action", choices=("compare", "refresh"))
    parser.add_argument("--from", dest="measured", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--to", dest="reference", type=Path, required=True, metavar="FOLDER")
    text = "JSON; default: tolerances.json beside the reference folder"
    parser.add_argument("--tolerances", type=Path, metavar="FILE", help=text)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 if they agree or were refreshed, 1 for differences, 2 for bad input."""
    options = _arguments(arguments)
    try:
        file = options.tolerances or options.reference.parent / "tolerances.json"
        differences = compare_folders(options.measured, options.reference, load_tolerances(file))
        if not differences:
            raise UserError(f"There is no */{FILE} in {options.measured}. Run the notebooks first.")
        for name, lines in differences.items():
            print(f"{name}: {len(lines) or 'no'} difference{'s' if len(lines) != 1 else ''}")
            print("".join(f"  {line}\n" for line in lines), end="")
        if options.action == "refresh":
            names = refresh(options.measured, options.reference)
            print(f"Refreshed {options.reference}: {', '.join(names)}")
            return 0
        return int(any(differences.values()))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
