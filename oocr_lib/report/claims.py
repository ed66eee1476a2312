"""The claim table: what the paper and its readers say, and whether our numbers agree.

    python -m oocr_lib.report.claims --results results/laptop

The claims are those of ``report.claim_file``. Every check of a claim must hold, so its verdict is
the worst among its checks; one missing number leaves the whole claim "not run", and so does a run
whose parameters are not the notebook's defaults. Claims that fail stay in the table, which goes to
``claims.json``, ``claims.md`` and ``claims.html``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oocr_lib.parameters import defaults
from oocr_lib.parameters.named import shown_model
from oocr_lib.report import claims_page, metrics
from oocr_lib.report.claim_file import FILE, Amendment, Check, Claim, load
from oocr_lib.report.metrics import Metrics
from oocr_lib.util import files as store
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.statistics import VERDICTS, Interval, verdict

NOT_RUN = "not run"
WITHDRAWN = "withdrawn"  # of a claim, never of a check
#: All verdicts, worst first; the worst among its checks decides a claim.
WORDS = (NOT_RUN, *VERDICTS)


@dataclass(frozen=True)
class Measured:
    """The outcome of one check.

    Attributes:
        interval: the number, or ``None``; then ``missing`` says why there is none.
        bare: the number was recorded without an interval.
        run: model, preset, seed and whatever is not the notebook's default; empty if it was not
            run.
    """

    check: Check
    verdict: str
    interval: Interval | None = None
    bare: bool = False
    missing: str = ""
    run: str = ""


@dataclass(frozen=True)
class Verdict:
    """A claim with the outcome of each of its checks, in their order."""

    claim: Claim
    measured: tuple[Measured, ...]

    @property
    def word(self) -> str:
        """``withdrawn``, or what the rule says."""
        return self.by_rule if self.claim.withdrawn is None else WITHDRAWN

    @property
    def by_rule(self) -> str:
        """The worst verdict among the checks: the first of ``WORDS`` that occurs."""
        return min((measured.verdict for measured in self.measured), key=WORDS.index)

    def earlier(self, change: Amendment) -> str:
        """What the rules before an amendment say of today's numbers; empty if unchanged."""
        if not change.rules:
            return ""
        words = [
            NOT_RUN if measured.interval is None else verdict(measured.interval, rule)
            for measured, rule in zip(self.measured, change.rules, strict=True)
        ]
        return min(words, key=WORDS.index)

    @property
    def changes(self) -> list[str]:
        """Every amendment as text, with the verdict of the rules before it."""
        earlier = [(change, self.earlier(change)) for change in self.claim.amended]
        return [f"{a} By the rules then: {word}." if word else str(a) for a, word in earlier]

    @property
    def remarks(self) -> str:
        """Note, amendments and withdrawal, as one text."""
        withdrawal = [] if self.claim.withdrawn is None else [str(self.claim.withdrawn)]
        return " ".join([self.claim.note, *self.changes, *withdrawal]).strip()


@checked
def judge(
    claims: Sequence[Claim], folder: Path, model: str = "testbed", seed: int = 0
) -> list[Verdict]:
    """Judge claims by each notebook's ``metrics.json`` below a folder.

    Args:
        folder: results of one preset, for instance ``results/laptop``.
        model, seed: of the runs to read; all their other parameters must be the defaults.

    Returns:
        One verdict per claim, in order; "not run" where a notebook or a metric is missing, or was
        run with other parameters.

    Raises:
        UserError: no such folder, a metrics file that cannot be read, or runs of several models or
            presets.
    """
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {str(folder)!r}. Allowed: the results of one preset, for instance"
            " results/laptop; run the notebooks first."
        )
    names = sorted({check.notebook for claim in claims for check in claim.checks})
    runs, changed = {}, {}
    for name in names:
        runs[name] = _metrics(metrics_file(folder, name, model, seed), name)
        if run := runs[name]:
            usual = dict(defaults.shipped(name)) | {"model": shown_model(model), "seed": seed}
            changed[name] = defaults.changed(run.params, usual)
    _refuse_mixture({name: run for name, run in runs.items() if run})
    return [
        Verdict(
            claim,
            tuple(
                _measure(check, runs[check.notebook], changed.get(check.notebook, {}), last)
                for check, last in zip(claim.checks, _last(claim), strict=True)
            ),
        )
        for claim in claims
    ]


@checked
def metrics_file(folder: Path, notebook: str, model: str = "testbed", seed: int = 0) -> Path:
    """Where the numbers of a notebook's run with this model and seed, and defaults otherwise, are.

    Args:
        folder: results of one preset.
    """
    label = defaults.label({"model": model, "seed": seed}, defaults.shipped(notebook))
    return folder / notebook / label / metrics.FILE


@checked
def write(folder: Path, verdicts: Sequence[Verdict]) -> list[Path]:
    """Write ``claims.json``, ``claims.md`` and ``claims.html``; return their paths.

    All three are complete under temporary names before the first is moved into place.

    Raises:
        UserError: the folder cannot be written.
    """
    texts = {
        "claims.json": json.dumps(claims_page.to_json(verdicts), indent=2, ensure_ascii=False)
        + "\n",
        "claims.md": claims_page.to_markdown(verdicts),
        "claims.html": claims_page.to_html(verdicts),
    }
    paths = [folder / name for name in texts]
    try:
        with ExitStack() as stack:
            for path, text in zip(paths, texts.values(), strict=True):
                aside = stack.enter_context(store.atomic_path(path))
                aside.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(
            f"Cannot write to {str(folder)!r}: {error.strerror}. Give another folder."
        ) from error
    return paths


def _metrics(path: Path, notebook: str) -> Metrics | None:
    """The metrics of one run of a notebook; ``None`` if it has not been run."""
    try:
        recorded = metrics.load(path) if path.exists() else None
    except (ValueError, OverflowError, OSError) as error:  # UserErrors are ValueErrors
        reason = " ".join(str(error).split())
        text = reason if str(path) in reason else f"{path} cannot be read: {reason}"
        raise UserError(text) from error
    if recorded is None:
        return None
    if recorded.notebook != notebook or not isinstance(recorded.params, dict):
        raise UserError(
            f"{path} holds numbers of {recorded.notebook!r} with parameters {recorded.params!r}."
            f" Allowed: those of {notebook!r}; run that notebook again."
        )
    return recorded


def _refuse_mixture(runs: Mapping[str, Metrics]) -> None:
    """Raise UserError if notebooks were run with several models or presets.

    Two models may have the same name, so the digests that notebooks recorded must agree, too.
    """
    kinds = {
        "model": {book: m.params.get("model") for book, m in runs.items()},
        "preset": {book: m.params.get("preset") for book, m in runs.items()},
        "model digest": {
            book: m.versions["model"] for book, m in runs.items() if "model" in m.versions
        },
    }
    for name, of_notebook in kinds.items():
        if not of_notebook:
            continue
        first, *rest = of_notebook
        for book in rest:
            if of_notebook[book] != of_notebook[first]:
                raise UserError(
                    f"Runs of several kinds: {first} has {name} {of_notebook[first]!r}, {book} has "
                    f"{of_notebook[book]!r}. Allowed: one {name}; run one of them again."
                )


def _last(claim: Claim) -> Sequence[Interval | None]:
    """The last numbers of a withdrawn claim, one per check; otherwise None for each."""
    intervals = claim.withdrawn.last if claim.withdrawn else ()
    return intervals or [None] * len(claim.checks)


def _measure(
    check: Check, recorded: Metrics | None, changed: Mapping[str, Any], last: Interval | None
) -> Measured:
    """One check, judged by a notebook's numbers; ``changed`` is what is not its default.

    Args:
        last: the number from when the notebook still recorded it.
    """
    if recorded is None:
        return Measured(check, NOT_RUN, missing=f"{check.notebook} has not been run")
    names = dict.fromkeys(("model", "preset", "seed", *changed))
    run = ", ".join(f"{name} {recorded.params[name]}" for name in names if name in recorded.params)
    if changed:
        settings = ", ".join(f"{name} {value}" for name, value in changed.items())
        missing = f"{check.notebook} was run with {settings}, which is not its default"
        return Measured(check, NOT_RUN, missing=missing, run=run)
    if check.metric not in recorded.values and last is not None:
        return Measured(check, verdict(last, check.rule), last, run=run)
    if check.metric not in recorded.values:
        missing = f"{check.notebook} recorded no {check.metric}"
        return Measured(check, NOT_RUN, missing=missing, run=run)
    interval = recorded.values[check.metric]
    word = verdict(interval, check.rule)
    return Measured(check, word, interval, bare=check.metric in recorded.bare, run=run)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m oocr_lib.report.claims",
        description="Judge every claim by measured numbers.",
    )
    text = "results of one preset, for instance results/laptop"
    parser.add_argument("--results", type=Path, required=True, metavar="FOLDER", help=text)
    text = "where the table goes; default: the results folder"
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=text)
    text = "of the runs to read; default: testbed"
    parser.add_argument("--model", default="testbed", metavar="NAME", help=text)
    text = "of the runs to read; default: 0"
    parser.add_argument("--seed", type=int, default=0, metavar="NUMBER", help=text)
    parser.add_argument("--claims", type=Path, metavar="FILE", help=f"default: data/{FILE}")
    return parser.parse_args(arguments)


def _refuse_wrong(folder: Path, notebooks: Collection[str]) -> None:
    """Raise UserError for a folder without runs, or one level too deep.

    A table full of "not run" would otherwise be written there: the folders of a notebook's other
    runs have ``metrics.json``, too.
    """
    names = {path.parent.name for path in folder.glob(f"*/{metrics.FILE}")}
    if not names:
        raise UserError(f"No */{metrics.FILE} in {str(folder)!r}. Run the notebooks.")
    if folder.resolve().name in notebooks and not names & set(notebooks):
        raise UserError(
            f"{str(folder)!r} holds the runs of one notebook. Allowed: the results of one preset, "
            f"for instance {str(folder.parent)!r}."
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 if the table was written, whatever the verdicts; 2 for bad input."""
    options = _arguments(arguments)
    try:
        claims = load(options.claims)
        verdicts = judge(claims, options.results, options.model, options.seed)
        notebooks = {check.notebook for claim in claims for check in claim.checks}
        _refuse_wrong(options.results, notebooks)
        paths = write(options.out or options.results, verdicts)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for outcome in verdicts:
        print(f"{outcome.word:14} {outcome.claim.id}")
    print("; ".join(f"{count} {word}" for word, count in claims_page.counts(verdicts).items()))
    print("wrote " + ", ".join(str(path) for path in paths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
