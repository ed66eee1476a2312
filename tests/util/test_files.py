"""Files are complete or absent, and loading refuses what does not match."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file

from oocr_lib.util import files as store
from oocr_lib.util.errors import UserError
from oocr_lib.util.files import atomic_path, load_tensors, read_json, save_tensors, write_json


def one_line(info: pytest.ExceptionInfo[UserError]) -> str:
    text = str(info.value)
    assert "\n" not in text and "Allowed" in text
    return text


def test_an_error_while_writing_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    target = tmp_path / "numbers.json"
    write_json(target, {"a": 1})
    with pytest.raises(RuntimeError, match="half way"), atomic_path(target) as aside:
        aside.write_text('{"a": ')
        raise RuntimeError("half way")
    assert read_json(target) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.json"]


def test_the_target_does_not_exist_before_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "figure.png"
    with atomic_path(target) as aside:
        aside.write_bytes(b"x")
        assert aside.suffix == ".png" and aside.parent == target.parent
        assert not target.exists()
    assert target.read_bytes() == b"x"


def _write_many(path: str, letter: str) -> None:
    for _ in range(40):
        write_json(path, {"text": letter * 20_000})


def test_two_writers_never_mix_their_files(tmp_path: Path) -> None:
    target = tmp_path / "shared.json"
    write_json(target, {"text": "a"})
    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(_write_many, str(target), letter) for letter in "ab"]
        while not all(writer.done() for writer in writers):
            assert len(set(read_json(target)["text"])) == 1
    assert [writer.exception() for writer in writers] == [None, None]
    assert [path.name for path in tmp_path.iterdir()] == ["shared.json"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(content=json_values)
def test_json_round_trip(content: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    write_json(path, content)
    assert read_json(path) == content


@pytest.mark.parametrize("content", [{"a": float("nan")}, {"a": float("inf")}, {"a": {1, 2}}])
def test_what_json_cannot_hold_is_refused_before_anything_is_written(
    content: object, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as info:
        write_json(tmp_path / "x.json", content)
    one_line(info)
    assert not list(tmp_path.iterdir())


def test_cut_off_and_missing_json_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": [1, 2, 3]})
    path.write_text(path.read_text()[:-4])
    with pytest.raises(UserError, match="not valid JSON") as info:
        read_json(path)
    one_line(info)
    with pytest.raises(UserError, match="No file"):
        read_json(tmp_path / "y.json")


@settings(max_examples=25, deadline=None)
@given(
    array=hnp.arrays(
        "float32",
        hnp.array_shapes(max_dims=3, max_side=4),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    note=st.text(max_size=20),
)
def test_tensor_round_trip(
    array: object, note: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tensors") / "x.safetensors"
    given_tensor = torch.as_tensor(array)
    save_tensors(path, {"a": given_tensor, "b": given_tensor[None]}, {"note": note, "k": 3})
    tensors, metadata = load_tensors(path)
    assert metadata == {"note": note, "k": 3}
    assert torch.equal(tensors["a"], given_tensor)
    assert tensors["b"].shape == given_tensor[None].shape


def test_shared_memory_and_types_survive(tmp_path: Path) -> None:
    base = torch.arange(6)
    given_tensors = {
        "ids": base,
        "view": base[2:],
        "half": base.to(torch.bfloat16),
        "mask": base > 2,
    }
    save_tensors(tmp_path / "x.safetensors", given_tensors, {})
    found, _ = load_tensors(tmp_path / "x.safetensors")
    for name, tensor in given_tensors.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


@pytest.mark.parametrize("kept", [0, 4, 40, -1])
def test_a_truncated_tensor_file_is_refused(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.ones(4, 4)}, {})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="truncated") as info:
        load_tensors(path)
    assert "x.safetensors" in one_line(info)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_are_neither_written_nor_read(tmp_path: Path, value: float) -> None:
    path = tmp_path / "x.safetensors"
    bad = torch.tensor([1.0, value, value])
    with pytest.raises(UserError, match=r"'theta'.* 2 of 3 numbers") as info:
        save_tensors(path, {"theta": bad}, {})
    one_line(info)
    assert not path.exists()
    header = {"oocr_lib": "{}", "oocr_lib_format": "2"}
    header["oocr_lib_sha256"] = store._hash("{}", {"theta": bad})
    save_file({"theta": bad}, path, metadata=header)
    with pytest.raises(UserError, match="not finite"):
        load_tensors(path)


def test_any_change_of_a_tensor_file_is_found(tmp_path: Path) -> None:
    """Every byte is flipped once: what is still read says the same as before."""
    path = tmp_path / "x.safetensors"
    theta = torch.arange(6.0).reshape(2, 3)
    save_tensors(path, {"theta": theta}, {"site": "resid@3"})
    content = path.read_bytes()
    refused = 0
    for at in range(len(content)):
        for bit in (0, 6):
            changed = bytearray(content)
            changed[at] ^= 1 << bit
            path.write_bytes(bytes(changed))
            try:
                found, metadata = load_tensors(path)
            except UserError as error:
                assert "\n" not in str(error)
                refused += 1
            else:
                assert torch.equal(found["theta"], theta) and metadata == {"site": "resid@3"}
    assert refused > len(content)


def test_a_foreign_tensor_file_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="no metadata of this library") as info:
        load_tensors(tmp_path / "x.safetensors")
    one_line(info)
    later = {"oocr_lib": json.dumps({}), "oocr_lib_format": "3"}
    save_file({"a": torch.ones(2)}, tmp_path / "y.safetensors", metadata=later)
    with pytest.raises(UserError, match="has format 3"):
        load_tensors(tmp_path / "y.safetensors")


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        ({"theta": (2, 4)}, r"'theta' of shape \(2, 3\).*\(2, 4\)"),
        ({"theta": (2, 3), "other": (1,)}, "lacks tensor 'other'"),
        ({}, "unexpected tensor 'theta'"),
    ],
)
def test_other_shapes_and_names_are_refused(
    expected: dict[str, tuple[int, ...]], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"theta": torch.zeros(2, 3)}, {})
    load_tensors(path, {"theta": (2, 3)})
    with pytest.raises(UserError, match=reason) as info:
        load_tensors(path, expected)
    one_line(info)
