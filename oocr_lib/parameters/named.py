"""Parameters that name something outside the notebook: checked before a run, hashed for identity.

    parameter      names
    data, rules    a file; empty for none. With data_policy, data is a file of choices
    model          testbed or testbed-<size>, a packaged model (smollm2), a folder with config and
                   weights, a .gguf file, or a hub name
    any other      a file or folder if there is a slash in it and it exists

Paths are relative to where the command was typed (``paths.resolve``). Nothing here loads torch.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from oocr_lib.models import gguf_file, hub, packaged
from oocr_lib.models.gguf_file import ALLOWED
from oocr_lib.parameters import model_folder
from oocr_lib.util import file_digest
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import data_dir, resolve

FILES = ("data", "rules")
#: Parameter that says whose letters the file of notebook 02 holds.
POLICY = "data_policy"
MODEL = "model"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_OFFLINE = ("1", "on", "yes", "true")
#: Hub models that could be reached: all runs of a sweep ask only once.
_ANSWERED: set[str] = set()


def check(values: Mapping[str, Any], typed_in: Path) -> None:
    """Check what a run's parameters name, as far as possible without loading anything.

    Raises:
        UserError: a file or model that is not there or cannot be read.
    """
    for name in FILES:
        text = values.get(name, "")
        if isinstance(text, str) and text and not resolve(text, typed_in).is_file():
            raise UserError(
                f"Parameter {name!r} got {text!r}: there is no such file in {str(typed_in)!r}. "
                "Allowed: a path from there, or an absolute one."
            )
    data, policy = (values.get(name) for name in (FILES[0], POLICY))
    if isinstance(data, str) and isinstance(policy, str) and (data or policy):
        from oocr_lib.tasks.risk import paper

        where = resolve(data, typed_in) if data and policy else data
        paper.read(str(where), policy)  # or the notebook fails half a minute later
    if isinstance(values.get(MODEL), str):
        _check_model(values[MODEL], typed_in)


def contents(values: Mapping[str, Any], typed_in: Path) -> dict[str, str]:
    """Digest (or hub commit) of everything that parameters name, by the parameter's text."""
    digests = {}
    for name, text in _texts(values):
        if name == MODEL and (commit := _hub_commit(text)) and not _folder(text, typed_in):
            digests[text] = commit
            continue
        path = _folder(text, typed_in) if name == MODEL else resolve(text, typed_in)
        if path and (name in (*FILES, MODEL) or "/" in text or os.sep in text):
            try:
                if path.is_file():
                    digests[text] = file_digest.of_file(path)
                elif path.is_dir():
                    digests[text] = file_digest.of_folder(path)
            except OSError as error:
                raise UserError(
                    f"Parameter {name!r} names {text!r}, which cannot be read: {error.strerror}."
                ) from error
    return digests


def shown_model(model: str) -> str:
    """A model's name for outputs, which get committed: only the last part of an absolute path."""
    return Path(model).name if Path(model).is_absolute() else model


def _texts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Parameter and text, for texts and lists of texts that are not too long for a path."""
    for name, value in values.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and 0 < len(text) < 1000 and "\0" not in text:
                yield name, text


def _folder(model: str, typed_in: Path) -> Path | None:
    """The folder or .gguf file that a model's name stands for, None for a hub name."""
    if model == "testbed" or model.startswith("testbed-"):
        return data_dir() / model
    if model in packaged.PACKAGES:
        return packaged.file_of(model)
    path = resolve(model, typed_in)
    is_file = path.suffix == gguf_file.SUFFIX and path.is_file()
    return path if is_file or path.is_dir() else None


def _check_model(model: str, typed_in: Path) -> None:
    allowed = f"Allowed: {ALLOWED} such as 'google/gemma-3-4b-it'"
    if model in packaged.PACKAGES:
        packaged.refuse(model)
        return
    folder = _folder(model, typed_in) if model else None
    if folder is not None and folder.suffix == gguf_file.SUFFIX:
        gguf_file.refuse(folder)
        return
    if folder is not None:
        model_folder.refuse(folder, model)
        return
    if not _HUB_NAME.fullmatch(model):
        raise UserError(f"There is no model {model!r} in {str(typed_in)!r}. {allowed}.")
    if _hub_commit(model):
        return
    switches = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    offline = any(os.environ.get(name, "").lower() in _OFFLINE for name in switches)
    close = difflib.get_close_matches(model, ["testbed", *packaged.PACKAGES], cutoff=0.8)
    if offline or (close and "/" not in model):
        guess = f" Did you mean {close[0]!r}?" if close else ""
        why = "neither a folder nor in the local cache"
        if offline:  # `oocr` sets it, so the reader may never have
            why += ", and HF_HUB_OFFLINE is set (HF_HUB_OFFLINE=0 lets it be fetched)"
        raise UserError(f"Model {model!r} is {why}.{guess} {allowed}.")
    if model not in _ANSWERED and (problem := hub.unreachable(model)):
        raise UserError(
            f"Model {model!r} is neither a folder, nor in the local cache, nor reachable on the "
            f"hub ({problem.rstrip('.')}). Check the name and the network. {allowed}."
        )
    _ANSWERED.add(model)


def _hub_commit(model: str) -> str:
    """The commit of a hub model in the local cache; "" if it is not there."""
    if not _HUB_NAME.fullmatch(model):
        return ""
    from huggingface_hub import try_to_load_from_cache

    try:
        file = try_to_load_from_cache(model, "config.json")
    except ValueError:  # not a valid name on the hub
        return ""
    return Path(file).parent.name if isinstance(file, str) else ""
