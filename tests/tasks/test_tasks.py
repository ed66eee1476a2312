"""The way from a task's name to its generator, and the digest of data files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from oocr_lib import tasks
from oocr_lib.tasks import base
from oocr_lib.tasks.backdoor import testbed as backdoor
from oocr_lib.tasks.functions import testbed as functions
from oocr_lib.tasks.locations import testbed as locations
from oocr_lib.tasks.risk import paper as risk_paper, testbed as risk
from oocr_lib.util.errors import UserError

FIRST = {"risk": "risky", "locations": "Paris", "functions": "mod_3", "backdoor": "win"}
MODULES = {"risk": risk, "locations": locations, "functions": functions, "backdoor": backdoor}


@pytest.mark.parametrize("name", tasks.NAMES)
def test_every_task_has_a_testbed_generator(name: str) -> None:
    made = tasks.factory(name)(FIRST[name], 1)
    assert isinstance(made, base.Task)
    assert made == MODULES[name].make(FIRST[name], seed=1)
    assert (made.name, made.dialect, made.concept, made.seed) == (name, "testbed", FIRST[name], 1)


def test_the_dialect_chooses_the_generator() -> None:
    made = tasks.factory("risk", "paper", count=12)("safe", 2)
    assert made == risk_paper.make("safe", seed=2, count=12)
    assert made.dialect == "paper"
    assert made != tasks.factory("risk", "testbed", count=12)("safe", 2)


@pytest.mark.parametrize("name", tasks.NAMES)
@pytest.mark.parametrize("dialect", tasks.DIALECTS)
def test_every_task_exists_in_both_dialects(name: str, dialect: str) -> None:
    assert callable(tasks.factory(name, dialect))


def test_options_reach_the_generator_and_empty_ones_do_not() -> None:
    """A notebook passes all its parameters; those left empty are the generator's defaults."""
    made = tasks.factory("backdoor", count=20, decorrelated=True, passes=2)("win", 0)
    assert made == backdoor.make("win", count=20, decorrelated=True, passes=2)
    plain = tasks.factory("risk", data="", count=None)("risky", 0)
    assert plain == risk.make("risky")


def test_false_and_zero_are_not_empty() -> None:
    made = tasks.factory("backdoor", decorrelated=False, count=20)("win", 0)
    assert made == backdoor.make("win", count=20)
    with pytest.raises(UserError, match="passes=0"):
        tasks.factory("backdoor", passes=0)("win", 0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tasks.factory("location"), "task 'location'.*Did you mean 'locations'"),
        (lambda: tasks.factory("risk", "papers"), "dialect 'papers'.*Did you mean 'paper'"),
        (lambda: tasks.factory("functions", data="a.jsonl"), "option.*'data'.*Allowed"),
        (lambda: tasks.factory("risk", counts=12), "option.*'counts'.*Did you mean 'count'"),
        (lambda: tasks.factory("risk")("bold", 0), "policy 'bold'"),
    ],
)
def test_wrong_input_gives_one_line(call, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    path, other = tmp_path / "rows.jsonl", tmp_path / "copy.jsonl"
    path.write_bytes(b'{"messages": []}\r\n')
    other.write_bytes(path.read_bytes())
    assert tasks.digest(str(path)) == hashlib.sha256(b'{"messages": []}\r\n').hexdigest()[:16]
    assert tasks.digest(str(other)) == tasks.digest(str(path)), "the name plays no part"
    other.write_bytes(b'{"messages": []}\n')
    assert tasks.digest(str(other)) != tasks.digest(str(path))
    assert tasks.digest("") == ""


def test_a_missing_data_file_is_one_line(tmp_path: Path) -> None:
    for wrong in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(UserError, match=r"Cannot read data=.*Give a file") as caught:
            tasks.digest(str(wrong))
        assert "\n" not in str(caught.value)
