"""What learners hand in: mistakes are named, and nothing ever breaks the notebook."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from typing import Any

import pytest
import torch

import oocr_lib as oocr
from tests.workshop.mistakes import MISTAKES
from workshop import checks, guard, kit

KEYS = sorted(checks.CHECKS)


def wanted(key: str) -> int:
    """How many things an exercise's check is given."""
    return checks.CHECKS[key].name.count(",") + 1


@pytest.mark.parametrize(
    ("key", "answer", "words"),
    [pytest.param(key, answer, words, id=f"{key} {name}") for key, name, answer, words in MISTAKES],
)
def test_mistakes_are_named(
    key: str, answer: tuple[Any, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checks.CHECKS[key](*answer) is False
    said = capsys.readouterr().out
    assert words in said and said.startswith(f"{key.upper()} not yet: ")
    assert said.count("\n") == 1 and len(said) < 400


def test_every_exercise_has_planted_mistakes() -> None:
    planted = {key: sum(one[0] == key for one in MISTAKES) for key in KEYS}
    planted["a2"] += 3  # below
    assert len(KEYS) >= 14 and min(planted.values()) >= 4, planted


def test_other_trainings_than_the_one_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    data, _ = kit.city()
    tokyo, _ = kit.city("Tokyo")
    for rows, method, words in (
        (data, oocr.Lora([0]), "this is a LoRA"),
        (data, oocr.Vector("resid@0", at="all"), "not about the hidden city"),
        (tokyo, oocr.Vector("resid@0"), "rows about"),
        (data.random_answers(0), oocr.Vector("resid@0"), "more steps"),
        (data, oocr.Vector("resid@0"), "more steps"),
    ):
        assert checks.a2(oocr.train(kit.lm(), rows, method, steps=1)) is False
        assert words in capsys.readouterr().out


class Spiteful:
    """An answer whose every question is answered by an error."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")

    def __call__(self, *_: Any) -> Any:
        raise SystemExit("bye")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not equal")

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise RuntimeError("neither")

    def __iter__(self) -> Any:
        raise RuntimeError("nothing to go through")

    def __float__(self) -> float:
        raise RuntimeError("no number")

    def __repr__(self) -> str:
        raise RuntimeError("no words")


def deep(*arguments: Any) -> Any:
    return deep(*arguments)


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nothing to say")


def raises_wordless(*arguments: Any) -> Any:
    raise Wordless


def quits(*arguments: Any) -> Any:
    raise SystemExit(1)


def interrupts(*arguments: Any) -> Any:
    raise KeyboardInterrupt


ODD: tuple[Any, ...] = (
    ..., 7, float("nan"), "", "text", b"bytes", [], {}, set(), (), True, object(), int,
    torch.zeros(0), torch.zeros(2, 3), torch.tensor(float("nan")), {"before": None}, [None] * 3,
    lambda: 0, lambda *_: None, lambda *_: ..., lambda *_: "text", lambda *_: [], lambda *_: {},
    lambda *_: float("inf"), lambda *_: torch.zeros(3), lambda *_: torch.tensor(0.3), lambda *_: 0,
    lambda *_: (None, None), lambda *_: 1 / 0, lambda *_: Spiteful(), Spiteful(), deep, quits,
    raises_wordless, interrupts, print, len, lambda *_: [Spiteful()], lambda *_: iter([]),
)  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_odd_answers_are_refused_in_one_line(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    for odd in ODD:
        assert checks.CHECKS[key](*[odd] * wanted(key)) is False
        lines = [line for line in capsys.readouterr().out.splitlines() if "not yet" in line]
        assert len(lines) == 1 and len(lines[0]) > 20, lines


@pytest.mark.parametrize("key", KEYS)
def test_called_with_too_much_or_nothing(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    for answer in ((), (1, 2, 3, 4)):
        assert checks.CHECKS[key](*answer) is False
        assert f"checks.{key}({checks.CHECKS[key].name})" in capsys.readouterr().out


FUNCTIONS = [key for key in KEYS if key not in ("a1", "a2", "a3", "d1", "d4")]


@pytest.mark.parametrize("key", FUNCTIONS)
def test_an_endless_loop_ends(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    def endless(*arguments: Any) -> None:
        while True:
            with contextlib.suppress(Exception):
                time.sleep(0.001)

    before = threading.active_count()
    rule = next(a[0] for k, _, a, _ in MISTAKES if k == "d3")
    answer = (rule, endless) if key == "d3" else (endless,)
    # The first call of a check trains what it compares with; that is not what is timed.
    checks.CHECKS[key](*answer[:-1], lambda *_: None)
    capsys.readouterr()
    assert checks.CHECKS[key](*answer, limit=1.0) is False
    assert "never ends" in capsys.readouterr().out
    # It does not go on in the background; a busy machine may take a moment to stop it.
    until = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_hook_that_is_left_behind_is_taken_out() -> None:
    block = kit.lm().module(kit.SITE)

    def leaves_one(v: Any, mask: Any) -> Any:
        block.register_forward_hook(lambda module, args, output: output * 0)
        return lambda module, args, output: output + mask[..., None] * v

    before = kit.accuracy(None)
    checks.b1(leaves_one)
    assert not block._forward_hooks and kit.accuracy(None) == before


def test_a_hook_from_an_earlier_cell_does_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    block = kit.lm().module(kit.SITE)
    block.register_forward_hook(lambda module, args, output: output * 0)
    assert checks.b1(lambda v, mask: lambda module, args, output: output + mask[..., None] * v)
    assert "taken out" in capsys.readouterr().out and not block._forward_hooks


def test_a_model_that_was_trained_itself_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    weight = next(kit.lm().model.parameters())
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1)
    try:
        assert checks.a1({"before": 0.2, "after": 0.9, "random": 0.2}) is False
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert "restart the kernel" in capsys.readouterr().out
    assert checks.a1({"before": 0.2, "after": 0.9, "random": 0.2})


def test_an_error_is_told_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    def answer_loss(logits: Any, ids: Any, mask: Any) -> Any:
        return logits[ids[mask], "three"]

    assert checks.b2(answer_loss) is False
    said = capsys.readouterr().out
    assert "answer_loss raised" in said and 'return logits[ids[mask], "three"]' in said


def test_a_stub_that_is_half_done_is_still_a_stub(capsys: pytest.CaptureFixture[str]) -> None:
    def later(*arguments: Any) -> Any:
        raise NotImplementedError

    for key in FUNCTIONS:
        if key != "d3":
            assert checks.CHECKS[key](later) is False
            said = capsys.readouterr().out
            assert "nothing is written yet" in said and checks.CHECKS[key].first in said


def test_a_stub_is_seen_before_anything_is_trained_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stub(*arguments: Any) -> Any:
        raise NotImplementedError

    def never() -> None:
        raise AssertionError("trained")

    for key, check in checks.CHECKS.items():
        slow = dataclasses.replace(check, before=never)
        for nothing in (None, stub):
            assert slow(*[nothing] * wanted(key)) is False
            assert "nothing is written yet" in capsys.readouterr().out


def test_a_stop_by_the_learner_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.join

    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        monkeypatch.setattr(threading.Thread, "join", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    found = guard.run(lambda: time.sleep(0.2))
    assert not found.ok and "stopped" in found.line


def test_what_is_passed_is_remembered_until_the_session_begins_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    right = {"before": 0.2, "after": 0.9, "random": 0.2}
    assert checks.a1(right) and checks.passed("a1")
    assert not checks.a1(None) and not checks.passed("a1")
    assert checks.a1(right)
    checks.start("A")
    assert not checks.passed("a1")
    assert "waits for A1" in capsys.readouterr().out
