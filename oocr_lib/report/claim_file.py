"""The file of claims, ``data/claims.toml``: its content, read and checked.

A claim is a statement in our words, the paper's value, and checks, each a metric of one notebook
with a rule (``statistics.verdict``). It is fixed before the run; a change is an amendment with its
date and reason, kept beside the claim. ``report.claims`` judges them.
"""

from __future__ import annotations

import datetime
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oocr_lib.report.metrics import Metrics
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.paths import data_dir
from oocr_lib.util.statistics import Interval, verdict

SCHEMA = 1  # of the file of claims
FILE = "claims.toml"
_CHECK_FIELDS = ("notebook", "metric", "rule")
_TEXT_FIELDS = ("id", "statement", "source", "paper_value", *_CHECK_FIELDS)
_FIELDS = (*_TEXT_FIELDS, "also", "note", "amended", "withdrawn")
_AMENDED_FIELDS = ("date", "was", "reason")  # and "rules", if they were different
_WITHDRAWN_FIELDS = ("date", "reason")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_NOTEBOOK = re.compile(r"\d\d_[a-z0-9_]+")


@dataclass(frozen=True)
class Check:
    """One number and the rule that it must satisfy.

    ``metric`` is a key ``family/method/measure`` of that notebook's ``metrics.json``.
    """

    notebook: str
    metric: str
    rule: str


@dataclass(frozen=True)
class Amendment:
    """A change of a claim after it was first judged: when, what it said before, and why.

    ``rules`` are the earlier rules of its checks, in order, if they were different; so the verdict
    that they give stays readable.
    """

    date: str
    was: str
    reason: str
    rules: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"Amended {self.date}: {self.reason} Before: {self.was}"


@dataclass(frozen=True)
class Withdrawal:
    """A claim that asked the wrong question: from which day it no longer counts, and why.

    Its checks are still judged, and the verdict of its rule stays readable. ``last`` holds their
    numbers, in order, from the last run that recorded them (preset laptop), for checks that no
    notebook makes any more.
    """

    date: str
    reason: str
    last: tuple[Interval, ...] = ()

    def __str__(self) -> str:
        note = " Its numbers are those of the last run that recorded them." if self.last else ""
        return f"Withdrawn {self.date}: {self.reason}{note}"


@dataclass(frozen=True)
class Claim:
    """One row of the table; all of ``checks`` must hold.

    Attributes:
        id: lower-case words joined by hyphens.
        statement: the paper's (or a reader's) statement, in our words; ``source`` says where.
        paper_value: the paper's value as text, with how it is known.
        note: limits of scale or testbed, or when a rule was set; may be empty.
        amended: what was changed after the claim was first judged; stays readable.
        withdrawn: why it no longer counts, if it was withdrawn.
    """

    id: str
    statement: str
    source: str
    paper_value: str
    checks: tuple[Check, ...]
    note: str = ""
    amended: tuple[Amendment, ...] = ()
    withdrawn: Withdrawal | None = None


@checked
def load(path: Path | None = None) -> list[Claim]:
    """Read and check the claims, in the order of the file (default: ``data/claims.toml``).

    Raises:
        UserError: no such file, not TOML, or a claim with an unknown or missing field, an id used
            twice, an unreadable rule, or a metric that no notebook could have recorded.
    """
    file = data_dir() / FILE if path is None else path
    content = _read_toml(file)
    for name in content:
        choose(name, ("schema", "claim"), f"entry in {file.name}:")
    if content.get("schema") != SCHEMA:
        raise UserError(f"{file} has schema {content.get('schema')!r}. Allowed: {SCHEMA}.")
    entries = content.get("claim")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{file} holds no claims. Write each one under a line [[claim]].")
    claims: list[Claim] = []
    for number, entry in enumerate(entries, 1):
        label = entry.get("id", number) if isinstance(entry, dict) else number
        try:
            claims.append(_claim(entry, {claim.id for claim in claims}))
        except UserError as error:
            raise UserError(f"Claim {label!r} in {file.name}: {error}") from error
    return claims


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read {str(file)!r}: {error.strerror}. Check the path.") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise UserError(f"File {str(file)!r} is not valid TOML ({error}). Correct it.") from error


def _claim(entry: Any, used: set[str]) -> Claim:
    """One claim of the file; ``used`` are the ids before it."""
    if not isinstance(entry, dict):
        raise UserError(f"{entry!r} is no table. Write each claim under a line [[claim]].")
    for name in entry:
        choose(name, _FIELDS, "field")
    texts = {name: _text(entry, name) for name in _TEXT_FIELDS}
    if not _ID.fullmatch(texts["id"]):
        raise UserError(f"Bad id {texts['id']!r}. Allowed: lower-case words joined by hyphens.")
    if texts["id"] in used:
        raise UserError(f"The id {texts['id']!r} is used twice. Give each claim its own.")
    also = entry.get("also", [])
    if not isinstance(also, list):
        raise UserError(f"'also' is {also!r}. Give a list of tables: notebook, metric, rule.")
    checks = [_check(texts)]
    for further in also:
        if not isinstance(further, dict):
            raise UserError(f"'also' holds {further!r}. Give tables: notebook, metric, rule.")
        for name in further:
            choose(name, _CHECK_FIELDS, "field in 'also':")
        checks.append(_check({name: _text(further, name) for name in _CHECK_FIELDS}))
    twice = [check.metric for check in checks if checks.count(check) > 1]
    if twice:
        raise UserError(f"The metric {twice[0]!r} has the same rule twice. Give it once.")
    note = _text(entry, "note") if "note" in entry else ""
    fields = {name: texts[name] for name in ("id", "statement", "source", "paper_value")}
    amended = entry.get("amended", [])
    if not isinstance(amended, list):
        raise UserError(f"'amended' is {amended!r}. Give a list of tables: date, was, reason.")
    changes = tuple(_amendment(change, len(checks)) for change in amended)
    withdrawn = _withdrawal(entry["withdrawn"], len(checks)) if "withdrawn" in entry else None
    return Claim(**fields, checks=tuple(checks), note=note, amended=changes, withdrawn=withdrawn)


def _amendment(entry: Any, checks: int) -> Amendment:
    rules = entry.get("rules", []) if isinstance(entry, dict) else []
    if not isinstance(rules, list) or len(rules) not in (0, checks):
        raise UserError(f"'rules' is {rules!r}. Give one rule for each of the {checks} checks.")
    for rule in rules:
        verdict(Interval(0.0, 0.0, 0.0, 1), _text({"rules": rule}, "rules"))
    rest = {k: v for k, v in entry.items() if k != "rules"} if isinstance(entry, dict) else entry
    date, was, reason = _dated(rest, "amended")
    return Amendment(date, was, reason, tuple(rules))


def _withdrawal(entry: Any, checks: int) -> Withdrawal:
    last = entry.get("last", []) if isinstance(entry, dict) else []
    if not isinstance(last, list) or len(last) not in (0, checks):
        raise UserError(f"'last' is {last!r}. Give one table for each of the {checks} checks.")
    rest = {k: v for k, v in entry.items() if k != "last"} if isinstance(entry, dict) else entry
    date, reason = _dated(rest, "withdrawn")
    return Withdrawal(date, reason, tuple(map(_number, last)))


def _number(entry: Any) -> Interval:
    """A number with its interval, as it was last measured."""
    fields = ("value", "low", "high", "n")
    if not isinstance(entry, dict) or set(entry) != set(fields):
        raise UserError(f"'last' holds {entry!r}. Give tables: {', '.join(fields)}.")
    for name in fields:
        if isinstance(entry[name], bool) or not isinstance(entry[name], (int, float)):
            raise UserError(f"'last' has {name} {entry[name]!r}. Give a number.")
    value, low, high = (float(entry[name]) for name in fields[:3])
    if not low <= value <= high or math.inf in (-low, high) or not isinstance(entry["n"], int):
        raise UserError(f"'last' holds {entry!r}. Allowed: finite low <= value <= high, whole n.")
    return Interval(value, low, high, int(entry["n"]))


def _dated(entry: Any, field: str) -> list[str]:
    """The texts of a table in ``amended`` or ``withdrawn``, in order; the first is a date."""
    fields = _AMENDED_FIELDS if field == "amended" else _WITHDRAWN_FIELDS
    if not isinstance(entry, dict):
        raise UserError(f"{field!r} holds {entry!r}. Give tables: {', '.join(fields)}.")
    for name in entry:
        choose(name, fields, f"field in {field!r}:")
    texts = [_text(entry, name) for name in fields]
    if not (_DATE.fullmatch(texts[0]) and _is_date(texts[0])):
        raise UserError(f"Date {texts[0]!r} cannot be read. Allowed: 2026-11-26, for instance.")
    return texts


def _is_date(text: str) -> bool:
    try:
        return bool(datetime.date.fromisoformat(text))
    except ValueError:
        return False


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value.strip() or len(value.splitlines()) > 1:
        raise UserError(f"Field {name!r} is {value!r}. Give one line of text.")
    return value.strip()


def _check(texts: Mapping[str, str]) -> Check:
    check = Check(*(texts[name] for name in _CHECK_FIELDS))
    if not _NOTEBOOK.fullmatch(check.notebook):
        raise UserError(f"Bad notebook {check.notebook!r}. Give a name like '03_locations'.")
    Metrics(check.notebook, {}).add(check.metric, 0.0)  # refuses what no notebook could record
    verdict(Interval(0.0, 0.0, 0.0, 1), check.rule)  # refuses what cannot be read
    return check
