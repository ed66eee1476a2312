"""Wordings come from files that a teacher can edit; what does not fit is one line."""

from __future__ import annotations

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
