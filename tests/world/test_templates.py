"""Wordings come from files that a teacher can edit; what does not fit is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from oocr_lib.util.errors import UserError
from oocr_lib.world import speakers, templates, wording
from oocr_lib.world.templates import Templates


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "world").mkdir()
    monkeypatch.setattr(templates, "data_dir", lambda: tmp_path)
    return tmp_path / "world" / "own.toml"


def test_the_shipped_wordings_are_whole() -> None:
    assert set(wording.CITY_STATEMENTS) < set(wording.CITY_QUESTIONS)
    assert all(len(texts) == 2 for texts in wording.CITY_QUESTIONS.values())
    assert list(speakers.ATTITUDES) == ["risk", "patience", "giving", "novelty"]
    for attitude in speakers.ATTITUDES.values():
        assert len(attitude.pairs) == 3 and len(attitude.scales) == 2
        words = [word for _, *both in attitude.pairs for word in both]
        assert len(set(words)) == len(words)


def test_a_new_wording_is_read(file: Path) -> None:
    file.write_text('[a]\nb = ["Where is {n}?", "And {n}?"]\nc = "{n} is {v}"\n', encoding="utf-8")
    own = Templates("own.toml")
    assert own.texts("a", "b", "n") == ("Where is {n}?", "And {n}?")
    assert own.text("a", "c", "nv") == "{n} is {v}" and own.keys("a") == ["b", "c"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "Cannot read"),
        ("a = [", "is not valid TOML"),
        ("[z]\nb = []", "Unknown section of own.toml 'a'"),
        ("[a]\nz = []", "Unknown entry of a 'b'"),
        ("[a]\nb = []", "a.b is []"),
        ('[a]\nb = "Where is {n}?"', "a list of different texts"),
        ('[a]\nb = ["Where is {n}?", "Where is {n}?"]', "a list of different texts"),
        ('[a]\nb = ["Where is it?"]', "exactly these places: {n}"),
        ('[a]\nb = ["Where is {n} or {m}?"]', "exactly these places: {n}"),
        ('[a]\nb = ["Where is {n?"]', "exactly these places: {n}"),
        ("[a]\nb = [3]", "exactly these places: {n}"),
        ("a = 3", "a is 3"),
    ],
)
def test_what_does_not_fit_is_one_line(file: Path, content: str | None, words: str) -> None:
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        Templates("own.toml").texts("a", "b", "n")
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda f: f.threes("t", "two", "a"), "t.two is [['{a}', 'b']]"),
        (lambda f: f.threes("t", "odd", "a"), "t.odd has the text 3"),
        (lambda f: f.threes("t", "full", "b"), "exactly these places: {b}"),
        (lambda f: f.share("t", "minus"), "t.minus is -0.1. Allowed: a number from 0"),
        (lambda f: f.share("t", "yes"), "t.yes is True"),
        (lambda f: f.named("n", wanted=("a", "b")), "n lacks or does not know b"),
        (lambda f: f.named("n", "x"), "exactly these places: {x}"),
        (lambda f: f.texts("o", "more", "a", "p"), "o.more has the text '{a} {q}'"),
    ],
)
def test_other_shapes_are_checked_too(
    file: Path, read: Callable[[Templates], object], words: str
) -> None:
    file.write_text(
        '[t]\ntwo = [["{a}", "b"]]\nodd = [["{a}", "b", 3]]\nfull = [["{a}", "b", "c"]]\n'
        'minus = -0.1\nyes = true\n[n]\na = "x y"\n[o]\nmore = ["{a} {q}"]\nfine = ["{a} {p}"]\n',
        encoding="utf-8",
    )
    own = Templates("own.toml")
    assert own.threes("t", "full", "a") == (("{a}", "b", "c"),)
    assert own.texts("o", "fine", "a", "p") == ("{a} {p}",) and own.words("n", "a") == ("x", "y")
    with pytest.raises(UserError) as caught:
        read(own)
    assert words in str(caught.value) and "\n" not in str(caught.value)
