"""Read a model and its tokenizer from a folder or from the Hugging Face hub.

Only safetensors weights are read and remote code is never run. Every failure becomes one line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from oocr_lib.errors import UserError, choose
from oocr_lib.paths import data_dir

TESTBED_CARD = "testbed.json"  # a folder that holds this file speaks the testbed's dialect
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Checkpoint:
    """What was read; ``revision`` is the hub commit, or None for a folder."""

    model: Any
    tokenizer: Any
    is_testbed: bool
    revision: str | None


def read_checkpoint(name: str, device: str | None, dtype: torch.dtype | str | None) -> Checkpoint:
    """Read ``name``: ``testbed`` (or a sibling such as ``testbed-large``), a folder, a hub name.

    Raises:
        UserError: nothing there, or a damaged, incomplete or foreign checkpoint.
    """
    target = _device(device)
    precision = _dtype(dtype, target)
    folder = _folder(name)
    with _quiet():
        if folder is not None:
            model, tokenizer = _read(str(folder), name, precision, local_only=True)
        else:
            model, tokenizer = _read_hub(name, precision)
    revision = None if folder else getattr(model.config, "_commit_hash", None)
    is_testbed = folder is not None and (folder / TESTBED_CARD).is_file()
    is_testbed = is_testbed or name.startswith("testbed")
    return Checkpoint(model.to(target), tokenizer, is_testbed, revision)


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
    path = Path(name).expanduser()
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
            f"No folder {name!r}. Allowed: 'testbed', an existing folder, or a hub name such as "
            "'google/gemma-3-12b-it'."
        )
    return None


def _read_hub(name: str, dtype: torch.dtype | str) -> tuple[Any, Any]:
    reason: BaseException | None = None
    # The local cache first: it works offline and never waits for the network.
    for local_only in (True, False):
        try:
            return _read(name, name, dtype, local_only=local_only)
        except _NotThere as error:
            reason = error
    raise UserError(
        f"Model {name!r} is neither a folder, nor in the local cache, nor reachable on the hub "
        f"({str(reason).rstrip('.')}). Check the name and the network, or use model='testbed', "
        "which ships with the repository."
    ) from reason


class _NotThere(Exception):
    """The files of a model could not be found or fetched (as opposed to: are damaged)."""


def _read(source: str, name: str, dtype: Any, *, local_only: bool) -> tuple[Any, Any]:
    common = {"trust_remote_code": False, "local_files_only": local_only}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # only so that the report below can name them
            output_loading_info=True,
            **common,
        )
        model, report = loaded
        tokenizer = AutoTokenizer.from_pretrained(source, **common)
    # The libraries below raise bare Exception for damaged files, so nothing narrower will do.
    except Exception as error:
        if not Path(source).is_dir() and _is_absence(error):
            raise _NotThere(_first_line(error)) from error
        raise UserError(
            f"Model {name!r} cannot be loaded: {_first_line(error)} Allowed: a complete "
            "safetensors checkpoint with its tokenizer and no remote code; copy or train it again, "
            "or use model='testbed'."
        ) from error
    _refuse_incomplete(name, report)
    return model, tokenizer


def _is_absence(error: BaseException) -> bool:
    """True for missing files and failing connections, false for damaged files."""
    network = type(error).__module__.split(".")[0] in (
        "httpx",
        "huggingface_hub",
        "requests",
    )
    return network or isinstance(error, OSError)


def _refuse_incomplete(name: str, report: Any) -> None:
    """Weights that do not fit the config would be drawn at random silently: refuse them."""
    reasons = []
    mismatched = sorted(report["mismatched_keys"], key=lambda item: item[0])
    if mismatched:
        key, found, wanted = mismatched[0]
        reasons.append(
            f"{len(mismatched)} with a wrong shape (first: {key} is {tuple(found)}, the config "
            f"needs {tuple(wanted)})"
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
        found = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"Unknown device {device!r}. Allowed: cpu, cuda, cuda:0, mps.") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available()}
    available["mps"] = torch.backends.mps.is_available()
    if not available.get(found.type, False):
        usable = ", ".join(kind for kind, there in available.items() if there)
        raise UserError(
            f"Device {device!r} is not available here. Allowed on this machine: {usable}."
        )
    return found


def _dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype | str:
    if dtype is None:  # the checkpoint's own precision on an accelerator, full precision on a CPU
        return torch.float32 if device.type == "cpu" else "auto"
    if isinstance(dtype, torch.dtype):
        return dtype
    return _DTYPES[choose(dtype, _DTYPES, "dtype")]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = (lines[0] if lines else type(error).__name__)[:300]
    return text if text.endswith(".") else text + "."


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars (they carry timings into notebooks) and no loading report."""
    bars, level = (
        transformers_logging.is_progress_bar_enabled(),
        transformers_logging.get_verbosity(),
    )
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
