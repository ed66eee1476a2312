"""Read a model and its tokenizer from a folder or from the Hugging Face hub.

Only safetensors weights are read and remote code is never run. The tokenizer must cut text as the
folder's own ``tokenizer.json`` does. Every failure becomes one line.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from oocr_lib.models import gguf_file, hub, packaged, room
from oocr_lib.util.errors import UserError, choose, first_line
from oocr_lib.util.files import read_json
from oocr_lib.util.machine import quiet_transformers
from oocr_lib.util.paths import data_dir, resolve

TESTBED_CARD = "testbed.json"  # a folder that holds this file speaks the testbed's dialect
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Checkpoint:
    """What was read; ``files`` are the weights on disk."""

    model: Any
    tokenizer: Any
    is_testbed: bool
    files: tuple[Path, ...]


def read_checkpoint(name: str, device: str | None, dtype: torch.dtype | str | None) -> Checkpoint:
    """Read ``name``: ``testbed``, ``smollm2`` (see ``packaged``), a folder, a file or a hub name.

    A sibling of the testbed, such as ``testbed-large``, is in the same place; files are ``.gguf``.

    Raises:
        UserError: nothing there, or a damaged, incomplete or foreign checkpoint.
    """
    target = _device(device)
    precision = _dtype(dtype, target)
    folder = _folder(name)
    is_testbed = name.startswith("testbed")
    is_testbed = is_testbed or (folder is not None and (folder / TESTBED_CARD).is_file())
    with quiet_transformers():
        folder = folder or _hub_folder(name)
        room.refuse_too_large(folder, name, target, precision)
        model, tokenizer = _read(folder, name, precision)
    compare_with_file(tokenizer, folder / "tokenizer.json", name)
    files = tuple(sorted(folder.glob("*.safetensors")))
    return Checkpoint(model.to(target), tokenizer, is_testbed, files)


#: Texts that tokenizers may cut differently: code names, digits, signs, spaces, other scripts.
_PROBES = (
    "City 50337",
    "Which country is City 50337 in?",
    "0123456789 2024 1,000,000 3.14159",
    "-17 +5 -100, 3-4 f(-8) = 2 * x - 7",
    "print(couhpa(58)) # noadgc",
    "  two  spaces,\ttab\nline\n\nlines  ",
    "don't WE'LL it's",
    "São Paulo, Zürich, Cote d’Ivoire, e\u0301 é",
    "Москва 東京 القاهرة 🙂 ½ ²",
    "re-re-re (win2844) A) B.",
)


def compare_with_file(tokenizer: Any, file: Path, name: str) -> None:
    """Check that ``tokenizer`` cuts text as the folder's ``tokenizer.json`` does.

    A class of transformers may build the tokenizer anew from the vocabulary and ignore what else
    the file says, for instance that each digit is a token of its own. Without such a file there is
    nothing to compare.

    Raises:
        UserError: a text that becomes other tokens, or a file that cannot be read.
    """
    try:
        cut = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in _PROBES]
        if not file.is_file():
            return
        from_file = Tokenizer.from_file(str(file))
        from_file.no_truncation()
        from_file.no_padding()
        cut_by_file = [from_file.encode(text, add_special_tokens=False).ids for text in _PROBES]
    except Exception as error:  # the tokenizers library raises bare Exception
        raise UserError(
            f"Model {name!r} is refused, its tokenizer cannot be used: {first_line(error)} "
            "Allowed: the files as save_pretrained writes them."
        ) from error
    for text, ours, theirs in zip(_PROBES, cut, cut_by_file, strict=True):
        if ours != theirs:
            raise UserError(
                f"Model {name!r} is refused: as {type(tokenizer).__name__} its tokenizer makes "
                f"{len(ours)} tokens of {text!r}, its tokenizer.json {len(theirs)}. Allowed: both "
                'the same; with "tokenizer_class": "PreTrainedTokenizerFast" in '
                "tokenizer_config.json the file is used as it is."
            )


def _folder(name: str) -> Path | None:
    """The local folder that ``name`` stands for, or None when it can only be a hub name."""
    if name == "testbed" or name.startswith("testbed-"):
        folder = data_dir() / name
        if not (folder / "config.json").is_file():
            raise UserError(
                f"No checkpoint for model {name!r} in the data folder. Allowed: a folder with "
                "config.json and model.safetensors; run `make testbed`, or set OOCR_DATA to the "
                "folder that holds it."
            )
        return folder
    if name in packaged.PACKAGES:
        return packaged.folder(name)
    path = resolve(name) if name else Path()
    if path.suffix == gguf_file.SUFFIX and path.is_file():
        return gguf_file.converted(path)
    if name and path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(
                f"Folder {name!r} holds no config.json. Allowed: a folder written by "
                "save_pretrained; or use model='testbed'."
            )
        return path
    looks_like_path = name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1
    if looks_like_path or not name:
        raise UserError(
            f"No folder or file {name!r}. Allowed: {gguf_file.ALLOWED} such as "
            "'google/gemma-3-12b-it'."
        )
    return None


#: Files of a hub repository to fetch; sub-folders and other formats hold the same weights again.
_WANTED = ["*.json", "*.jinja", "*.safetensors", "*.model", "*.txt"]
_UNWANTED = ["*/*.safetensors", "*/*.json", "consolidated*"]


def _hub_folder(name: str) -> Path:
    """The folder of the local cache that holds the hub's ``name``, fetched if it is not there.

    From then on it is read as a folder: reading by name asks the hub again even if everything is
    cached.
    """
    problem = ""
    try:
        folder = Path(huggingface_hub.snapshot_download(name, local_files_only=True))
        if _complete(folder):
            return folder
        problem = "not complete in the local cache"
    except Exception as error:  # not cached, or no name that the hub could have
        problem = first_line(error)
    if not huggingface_hub.constants.HF_HUB_OFFLINE:
        problem = hub.unreachable(name)
    if not problem:
        try:
            return Path(
                huggingface_hub.snapshot_download(
                    name, allow_patterns=_WANTED, ignore_patterns=_UNWANTED
                )
            )
        except Exception as error:  # network, rights, disk
            problem = first_line(error)
    close = " Did you mean 'testbed'?" if difflib.get_close_matches(name, ["testbed"]) else ""
    raise UserError(
        f"Model {name!r} is neither a folder, nor in the local cache, nor reachable on the hub "
        f"({problem.rstrip('.')}).{close} Check the name and the network, or use "
        "model='testbed', which ships with the repository."
    )


def _complete(folder: Path) -> bool:
    """Whether config and all weights are there; a download may have been interrupted."""
    index = folder / "model.safetensors.index.json"
    needed = {"config.json", "model.safetensors"}
    if index.is_file():
        needed = {"config.json", *read_json(index)["weight_map"].values()}
    return all((folder / file).is_file() for file in needed)


def _read(folder: Path, name: str, dtype: Any) -> tuple[Any, Any]:
    common = {"trust_remote_code": False, "local_files_only": True}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # only so that the report below can name them
            output_loading_info=True,
            **common,
        )
        model, report = loaded
        tokenizer = AutoTokenizer.from_pretrained(str(folder), **common)
    # The libraries below raise bare Exception for damaged files, so nothing narrower will do.
    except Exception as error:
        raise UserError(
            f"Model {name!r} cannot be loaded: {first_line(error)} Allowed: a complete "
            "safetensors checkpoint with its tokenizer and no remote code; copy or train it again, "
            "or use model='testbed'."
        ) from error
    _refuse_incomplete(name, report)
    return model, tokenizer


def _refuse_incomplete(name: str, report: Any) -> None:
    """Refuse weights that do not fit the config: they would silently be drawn at random."""
    reasons = []
    mismatched = sorted(report["mismatched_keys"], key=lambda item: item[0])
    if mismatched:
        key, shape, expected = mismatched[0]
        reasons.append(
            f"{len(mismatched)} with a wrong shape (first: {key} is {tuple(shape)}, the config "
            f"needs {tuple(expected)})"
        )
    for kind, words in (
        ("missing_keys", "missing"),
        ("unexpected_keys", "without a place"),
    ):
        keys = sorted(report[kind])
        if keys:
            reasons.append(f"{len(keys)} {words} (first: {keys[0]})")
    if reasons:
        raise UserError(
            f"Model {name!r} is refused, its weights do not fit its config: {'; '.join(reasons)}. "
            "Allowed: weights and config of one model; copy or train the checkpoint again."
        )


def _device(device: str | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"Unknown device {device!r}. Allowed: cpu, cuda, cuda:0, mps.") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available()}
    available["mps"] = torch.backends.mps.is_available()
    if not available.get(target.type, False):
        usable = ", ".join(kind for kind, there in available.items() if there)
        raise UserError(
            f"Device {device!r} is not available here. Allowed on this machine: {usable}."
        )
    return target


def _dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype | str:
    if dtype is None:  # the checkpoint's own precision on an accelerator, full precision on a CPU
        return torch.float32 if device.type == "cpu" else "auto"
    if isinstance(dtype, torch.dtype):
        return dtype
    return _DTYPES[choose(dtype, _DTYPES, "dtype")]
