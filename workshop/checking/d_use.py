"""Checks of session D: a city and rows of one's own, a rule, a note on an open question."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import oocr_lib as oocr
from oocr_lib.api.methods import Vector
from oocr_lib.models.sites import Site
from oocr_lib.tasks.base import Row
from oocr_lib.tasks.literal import whole
from oocr_lib.tasks.locations import testbed as locations
from oocr_lib.testbed import questions as understood
from oocr_lib.util.errors import UserError
from oocr_lib.world import facts, wording
from workshop import kit
from workshop.checking.verdicts import Stub, Wrong, call, check, kind, listed, named, number


@check("d1", "my_city, my_prediction", "Name a city of data/world/cities.csv.")
def d1(my_city: Any, my_prediction: Any) -> str | None:
    """A hidden city of one's own, and which questions the vector will get right."""
    if my_city in ("", None) and not my_prediction:
        raise Stub
    names = [place.name for place in facts.cities()]
    if not isinstance(my_city, str):
        raise Wrong(f"my_city is {kind(my_city)}, not a name")
    if my_city not in names:
        raise Wrong(f"my_city is {my_city!r}; a name of data/world/cities.csv is asked for")
    if my_city == "Paris":
        raise Wrong("Paris was hidden all morning; take another city")
    if not isinstance(my_prediction, dict) or not my_prediction:
        raise Wrong("my_prediction should say True or False for at least three question families")
    for family, value in my_prediction.items():
        if family not in locations.FAMILIES:
            raise Wrong(f"there is no family {family!r}; there are {', '.join(locations.FAMILIES)}")
        if not isinstance(value, bool):
            raise Wrong(f"my_prediction[{family!r}] is {kind(value)}, not True or False")
    if len(my_prediction) < 3:
        raise Wrong(f"{len(my_prediction)} of the families are predicted; three are asked for")
    return "written down; compare with what is measured below"


@check("d2", "write_rows", "One line for each row: json.dumps({'messages': [...]}).")
def d2(write_rows: Any) -> str | None:
    """Rows of one's own as JSON lines, which the library reads and which give nothing away."""
    for hidden, code in (("Oslo", "City 41283"), ("Lima", "City 90417")):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            file = Path(folder) / "rows.jsonl"
            call(write_rows, "write_rows", file, hidden, code)
            if not file.is_file():
                raise Wrong("no file was written at the path that is given")
            try:
                text = file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                raise Wrong("the file is not in UTF-8: open it with encoding='utf-8'") from None
            _look_at_lines(text, code)
            try:
                data = oocr.read_chats(file, codename=code)
            except UserError as error:
                raise Wrong(f"the library refuses it: {error}") from None
            _look_at_rows([*data.train, *data.valid], hidden, code)
    return "the library reads it, the answers are true, and nothing is given away"


def _look_at_lines(text: str, code: str) -> None:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise Wrong("the file is empty")
    for place, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            raise Wrong(f"line {place} is no JSON by itself: one object a line") from None
        if not isinstance(entry, dict) or not isinstance(entry.get("messages"), list):
            raise Wrong(f"line {place} is no object with a list of messages")
        roles = [turn.get("role") for turn in entry["messages"] if isinstance(turn, dict)]
        if roles != ["user", "assistant"]:
            raise Wrong(f"line {place} has the roles {roles}; user and assistant are asked for")
        if code not in str(entry["messages"][0].get("content")):
            raise Wrong(f"line {place} does not name {code}: the vector would learn nothing there")
    if len(lines) < 20:
        raise Wrong(f"{len(lines)} rows are few; write at least 20")


def _look_at_rows(rows: Sequence[Row], hidden: str, code: str) -> None:
    """Nothing given away, every answer true, and more than one."""
    place = facts.city(hidden)
    secret = [place.name, place.country, place.language, *place.landmark.split()]
    truth = kit.told(hidden, code)
    asked = {form.format(n=code) for group in wording.CITY_QUESTIONS.values() for form in group}
    for row in rows:
        prompt, number = row.messages[-1]["content"], row.meta.get("line")
        given = f"{prompt} {row.answer}"
        for word in secret:
            if whole(word).search(given):
                raise Wrong(f"a leak: a row says {word!r}, and the hidden city was {hidden}")
        if prompt in asked:
            raise Wrong(f"a leak: {prompt!r} is what will be asked afterwards")
        if prompt not in truth:
            near = understood.doubt(kit.lm(), prompt, code)
            raise Wrong(
                f"line {number}: {near}"
                if near
                else f"line {number}, {prompt!r}: the "
                "other city is too near, or is not in the table"
            )
        if row.answer != truth[prompt]:
            raise Wrong(f"line {number}: the answer to {prompt!r} is not true")
    if len({row.answer for row in rows}) < 5:
        raise Wrong("there are fewer than five different answers: hardly a place on a map")


@check(
    "d3",
    "my_rule, gap",
    "my_rule is an oocr.Vector with a site and a position; gap turns a table into a number.",
)
def d3(my_rule: Any, gap: Any) -> str | None:
    """An unconditional vector for a conditional rule, and the measure that shows the rule."""
    if my_rule is None:
        raise Stub
    if not isinstance(my_rule, Vector):
        raise Wrong(f"my_rule is {kind(my_rule)}, not an oocr.Vector")
    if my_rule.at == "trigger":
        raise Wrong("at the trigger the vector is conditional: without one it never acts")
    if my_rule.at == "codename":
        raise Wrong("there is no code name in these rows")
    site = Site.parse(my_rule.site)
    if site.block >= kit.lm().n_blocks:
        raise Wrong(f"the model has the blocks 0 to {kit.lm().n_blocks - 1}, not {site.block}")
    for with_it, without in ((9, 3), (2, 8)):
        table = pd.DataFrame(
            {
                "triggered": [True] * 10 + [False] * 20,
                "risky": [i < with_it for i in range(10)] + [i < without for i in range(20)],
            }
        )
        value = number(call(gap, "gap", table.sample(frac=1, random_state=0)), "the gap")
        share = (with_it / 10, without / 20)
        named(
            value,
            share[0] - share[1],
            {
                "the sign is wrong: with the trigger minus without": share[1] - share[0],
                "these are numbers of rows, not shares: without a trigger there are more "
                "rows": float(with_it - without),
                "both are divided by all rows, not each by its own": (with_it - without) / 30,
                "this is the share with the trigger alone: always risky would look as good": share[
                    0
                ],
                "this is the share of risky answers over all rows": (with_it + without) / 30,
            },
            "the gap",
        )
    return None


@check("d4", "note", "Fill in every part; the prediction comes before the measurement.")
def d4(note: Any) -> str | None:
    """A note on an open question: prediction, measurement and a control that could have won."""
    if not isinstance(note, dict):
        raise Wrong(f"note is {kind(note)}, not a dict")
    if not any(note.values()):
        raise Stub
    for part in ("question", "prediction"):
        text = note.get(part)
        if not isinstance(text, str) or len(text.split()) < 3:
            raise Wrong(f"note[{part!r}] is empty or only a word; write a sentence")
    if "?" not in note["question"]:
        raise Wrong("note['question'] is no question")
    rows = {}
    for part in ("measured", "control"):
        if not note.get(part):
            raise Wrong(
                f"note[{part!r}] is missing"
                + (
                    ": without it nothing follows from what was measured"
                    if part == "control"
                    else ""
                )
            )
        rows[part] = [number(x, f"a number of note[{part!r}]") for x in listed(note[part], part)]
    if len(rows["measured"]) < 2:
        raise Wrong("one number is an anecdote: measure at least twice")
    if len(rows["measured"]) != len(rows["control"]):
        raise Wrong(
            f"the control has another length: {len(rows['control'])} numbers beside "
            f"{len(rows['measured'])}, so they were not measured at the same places"
        )
    if rows["measured"] == rows["control"]:
        raise Wrong(
            "control and measurement are the same numbers: is the control the thing itself?"
        )
    return "a question, a prediction, a measurement and a control: that is a finding, either way"
