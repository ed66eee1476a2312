"""Asking the hub takes seconds, whatever the network does."""

from __future__ import annotations

import time
from types import SimpleNamespace

import huggingface_hub
import huggingface_hub.constants
import pytest

from oocr_lib.models import hub


@pytest.mark.parametrize(("code", "found"), [(200, ""), (403, ""), (404, "no such model there")])
def test_the_answer_decides(monkeypatch: pytest.MonkeyPatch, code: int, found: str) -> None:
    session = SimpleNamespace(head=lambda *_, **__: SimpleNamespace(status_code=code))
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: session)
    assert hub.unreachable("some/model") == found


@pytest.mark.usefixtures("silent_hub")
def test_a_host_that_never_answers_is_given_up() -> None:
    began = time.monotonic()
    assert hub.unreachable("some/model")
    assert time.monotonic() - began < 3


def test_a_closed_port_and_no_name_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    for name in ("some/model", "a b"):
        found = hub.unreachable(name)
        assert found and "\n" not in found


def test_our_patience_is_less_than_a_readers() -> None:
    assert hub.SECONDS < 5
