"""The arrays with targets that Functions writes beside its chats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oocr_lib.tasks.chatfiles import chats, jsonl
from oocr_lib.tasks.chatfiles.dataset_json import load
from oocr_lib.util.errors import UserError


def item(target: Any, answer: Any, **more: Any) -> dict[str, Any]:
    turns = [("user", "import f"), ("user", "Find an n."), ("assistant", answer)]
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"func_outs": {"name": "inverse", "x": "3"}, "target": target, "messages": messages} | (
        more
    )


ONE, SEVERAL = item("7", "7"), item(["3", "-3"], None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "f_test_dataset.json"


def test_targets_are_one_text_or_several_and_several_have_a_null_answer(path: Path) -> None:
    path.write_text(json.dumps([ONE, SEVERAL], indent=4))
    one, several = jsonl.load_dataset_json(path)
    assert one.target == "7" and one.messages[-1]["content"] == "7"
    assert several.target == ("3", "-3") and several.messages[-1]["content"] is None
    assert one.func_outs == {"name": "inverse", "x": "3"}
    items = [one.messages, several.messages]
    rows = chats.to_rows(items, separator="\n", drop_null=True)
    assert [row.answer for row in rows] == ["7"]


def cases() -> list[tuple[Any, str]]:
    return [
        ([], "no array of items"),
        ({"a": 1}, "no array of items"),
        ([ONE, 3], "item 2: the item is 3"),
        ([{"target": "7"}], "item 1: the item lacks key 'func_outs'"),
        ([ONE | {"id": 4}], "Unknown key in the item 'id'"),
        ([item(7, "7")], "target 7"),
        ([item([], None)], r"target \[\]"),
        ([item([3], None)], r"target \[3\]"),
        ([item("7", "8")], "says '8', the target is '7'"),
        ([item("7", None)], "says None, the target is '7'"),
        ([item(["7"], "7")], "null for a list"),
        ([item(["\ud800"], None)], "surrogate"),
        ([item("7", "7", func_outs=3)], "func_outs 3"),
        ([item("7", "7", messages=[])], "messages is"),
        ([item("7", "7", messages=[{"role": "user", "content": "7"}])], "last turn says '7'"),
    ]


@pytest.mark.parametrize(("content", "message"), cases())
def test_a_bad_array_is_named_in_one_line(path: Path, content: Any, message: str) -> None:
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert "f_test_dataset.json" in str(caught.value) and str(caught.value).isprintable()


def test_a_cut_off_array_names_the_line(path: Path) -> None:
    path.write_text(json.dumps([ONE], indent=4)[:-30])
    with pytest.raises(UserError, match=r"not valid JSON \(.* at line \d+, column \d+\)"):
        load(path)
    with pytest.raises(UserError, match="No file"):
        load(path.with_name("none.json"))


def test_rows_and_arrays_point_at_each_other(path: Path) -> None:
    path.write_text(json.dumps([ONE], indent=4))
    with pytest.raises(UserError, match=r"line 1: .*for an array use load_dataset_json"):
        jsonl.load(path)
    path.write_text("\n".join(json.dumps({"messages": ONE["messages"]}) for _ in range(2)))
    with pytest.raises(UserError, match=r"one object a line use jsonl\.load"):
        load(path)
