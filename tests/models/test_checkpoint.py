"""Checkpoints load silently and completely, or are refused in one line with the reason."""

from __future__ import annotations

import json
import time
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from oocr_lib.activations import capture
from oocr_lib.models.language_model import Site, load_model, wrap
from oocr_lib.util.errors import UserError
from tests import tiny


def refused(info: pytest.ExceptionInfo[UserError]) -> str:
    text = str(info.value)
    assert "\n" not in text and "Allowed" in text
    return text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved tiny model, where ``load_model("testbed")`` looks for it."""
    made = tmp_path / "data" / "testbed"
    tiny.model("gemma3").save_pretrained(made)
    tiny.tokenizer("wordpiece", "system").save_pretrained(made)
    monkeypatch.setenv("OOCR_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return made


def test_load_gives_the_saved_model_silently(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    lm = load_model("testbed", device="cpu")
    assert capfd.readouterr() == ("", "")
    reference = wrap(tiny.model("gemma3"), tiny.tokenizer("wordpiece", "system"), name="testbed")
    assert lm.digest == reference.digest and lm.dialect == "testbed"
    ids = tiny.batch().input_ids
    assert torch.equal(lm.model(ids).logits, reference.model(ids).logits)
    assert next(lm.model.parameters()).dtype == torch.float32


def test_the_dialect_follows_name_or_card(folder: Path) -> None:
    assert load_model(str(folder), device="cpu").dialect == "paper"
    (folder / "testbed.json").write_text("{}")
    assert load_model(str(folder), device="cpu").dialect == "testbed"
    folder.rename(folder.with_name("testbed-large"))
    assert load_model("testbed-large", device="cpu").dialect == "testbed"
    with pytest.raises(UserError, match="make testbed") as info:
        load_model("testbed")
    refused(info)


def test_precision_can_be_chosen(folder: Path) -> None:
    lm = load_model("testbed", device="cpu", dtype="bfloat16")
    assert next(lm.model.parameters()).dtype == torch.bfloat16
    assert capture(lm, tiny.batch(), [Site(0, "resid")])[Site(0, "resid")].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"dtype": "float8"}, "dtype 'float8'"),
        ({"device": "tpu"}, "Unknown device 'tpu'"),
        ({"device": "mps"}, "not available"),
        ({"device": "cuda:99"}, "not available"),
    ],
)
def test_wrong_device_and_precision_are_refused(
    folder: Path, arguments: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=reason) as info:
        load_model("testbed", **arguments)
    refused(info)


def edit(weights: Path, change: str) -> None:
    tensors = load_file(weights)
    name = "model.layers.1.mlp.down_proj.weight"
    if change == "wrong shape":
        tensors[name] = tensors[name][:, :-2].contiguous()
    elif change == "missing":
        del tensors[name]
    elif change == "without a place":
        tensors["model.layers.3.mlp.down_proj.weight"] = tensors[name].clone()
    save_file(tensors, weights, metadata={"format": "pt"})


@pytest.mark.parametrize("change", ["wrong shape", "missing", "without a place"])
def test_weights_that_do_not_fit_are_refused_with_the_reason(folder: Path, change: str) -> None:
    edit(folder / "model.safetensors", change)
    with pytest.raises(UserError, match=f"1 .*{change}.*down_proj") as info:
        load_model("testbed", device="cpu")
    refused(info)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_truncated_files_are_refused(folder: Path, file: str) -> None:
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(UserError, match=r"cannot be loaded: .{15}") as info:
        load_model("testbed", device="cpu")
    refused(info)


def test_pickled_weights_are_never_read(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors") as info:
        load_model("testbed", device="cpu")
    refused(info)


def test_remote_code_is_never_run(folder: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (folder / "modeling.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass M: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "modeling.M", "AutoModelForCausalLM": "modeling.M"}
    config["model_type"] = "unheard_of"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="cannot be loaded") as info:
        load_model("testbed", device="cpu")
    refused(info)
    assert not ran.exists()


def test_a_missing_hub_model_offline_names_the_testbed(folder: Path) -> None:
    with pytest.raises(UserError, match="nobody/nothing") as info:
        load_model("nobody/nothing", device="cpu")
    assert "\n" not in str(info.value) and "model='testbed'" in str(info.value)


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/place", "~/nowhere", "a/b/c", ""])
def test_a_missing_folder_is_refused_without_asking_the_hub(name: str) -> None:
    with pytest.raises(UserError, match="No folder") as info:
        load_model(name)
    refused(info)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json") as info:
        load_model(str(tmp_path))
    refused(info)


def test_loading_restores_the_readers_own_log_settings(folder: Path) -> None:
    from transformers.utils import logging

    logging.set_verbosity_info()
    logging.enable_progress_bar()  # a notebook's set-up in another test switches it off
    try:
        load_model("testbed", device="cpu")
        assert logging.get_verbosity() == logging.INFO and logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity_warning()


# --- the tokenizer is the one in the folder ---


def llama_folder(path: Path, tokenizer_class: str) -> Path:
    """Merges join digits; a pre-tokenizer that was added later keeps them apart."""
    tiny.model("llama").save_pretrained(path)
    tiny.tokenizer("bpe_merged", "system").save_pretrained(path)
    edit_json(path / "tokenizer_config.json", tokenizer_class=tokenizer_class)
    steps = json.loads((path / "tokenizer.json").read_text())["pre_tokenizer"]
    steps["pretokenizers"].insert(0, {"type": "Digits", "individual_digits": True})
    edit_json(path / "tokenizer.json", pre_tokenizer=steps)
    return path


def edit_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("tokenizer_class", ["GPT2Tokenizer", "GemmaTokenizer"])
def test_a_class_that_cuts_otherwise_than_the_file_is_refused(
    tokenizer_class: str, tmp_path: Path
) -> None:
    """Digits stand alone in the file; these classes build the tokenizer anew without that."""
    folder = llama_folder(tmp_path, tokenizer_class)
    with pytest.raises(UserError, match=r"is refused: as .* its tokenizer\.json") as info:
        load_model(str(folder), device="cpu")
    text = refused(info)
    assert "PreTrainedTokenizerFast" in text
    llama_folder(tmp_path, "PreTrainedTokenizerFast")  # what the message says to do
    lm = load_model(str(folder), device="cpu")
    own = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("City 50337").ids
    assert lm.tokenizer("City 50337", add_special_tokens=False)["input_ids"] == own
    assert len(own) >= 7


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_tokenizers_as_they_are_saved_fit_their_files(kind: str, tmp_path: Path) -> None:
    tiny.model("llama").save_pretrained(tmp_path)
    tiny.tokenizer(kind, "system").save_pretrained(tmp_path)
    assert load_model(str(tmp_path), device="cpu").n_blocks == tiny.N_BLOCKS


# --- the hub ---


@pytest.mark.usefixtures("silent_hub")
def test_an_unreachable_hub_is_one_line_within_seconds() -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match="Did you mean 'testbed'") as info:
        load_model("testbedd", device="cpu")
    assert time.monotonic() - began < 5
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("name", ["a b", "x" * 200, "-x", "a--b"])
def test_a_name_that_no_hub_could_have_is_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for offline in (True, False):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(UserError, match="neither a folder") as info:
            load_model(name, device="cpu")
        assert "\n" not in str(info.value)


def test_a_cached_hub_model_is_read_without_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commit, repository = "0" * 40, tmp_path / "models--some--model"
    snapshot = repository / "snapshots" / commit
    tiny.model("llama").save_pretrained(snapshot)
    tiny.tokenizer("bpe_digits", "system").save_pretrained(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    lm = load_model("some/model", device="cpu")
    assert lm.digest == load_model(str(snapshot), device="cpu").digest
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(UserError, match="'some/model' is neither"):
        load_model("some/model", device="cpu")
