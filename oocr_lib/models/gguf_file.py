"""Models in one ``.gguf`` file: converted once into a folder that ``from_pretrained`` reads.

A GGUF file holds quantized weights, the tokenizer and the chat template. Transformers restores the
weights; they are saved in 32 bits as safetensors in the cache folder, so every later start is that
of any other model. The tokenizer is checked against what the file says of it: transformers builds a
common one for each architecture and can omit the rule that each digit is a token of its own.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from tokenizers import pre_tokenizers

from oocr_lib.util import cache, file_digest, progress
from oocr_lib.util.errors import UserError
from oocr_lib.util.machine import quiet_transformers

#: What ``model`` may be, for messages; a hub name follows as an example.
ALLOWED = "'testbed', 'smollm2', an existing folder or .gguf file, or a hub name"
SUFFIX = ".gguf"
WEIGHTS = "model.safetensors"
#: Version of the conversion; a higher number converts every file again.
_FORMAT = 1
MAGIC = b"GGUF"
#: ``general.architecture`` of files that can be read here; their blocks are in ``models.sites``.
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3")
#: Bytes of the folder for one byte of the file: about four and a half bits become 32.
_GROWTH = 8
#: ``tokenizer.ggml.pre`` of byte-level tokenizers whose digits are tokens of their own.
_SINGLE_DIGITS = ("smollm", "qwen2", "refact", "starcoder")
_DIGITS = ["City 50337", "2024", "f(-17) = 58"]


def folder_of(file: Path) -> Path:
    """Where a file's conversion is, or will be: by content, so a changed file is another model."""
    return cache.root() / "gguf" / f"{file.stem}-{file_digest.of_file(file)}-{_FORMAT}"


def converted(file: Path) -> Path:
    """The folder that holds a GGUF file's model in safetensors, converted if it is not there yet.

    The embedding may be stored once for both ends of the model, as its config then says.
    Converting takes about a minute for 135 million parameters.

    Raises:
        UserError: no GGUF file, one that is cut off, of another architecture, or with a tokenizer
            that would cut text differently from what the file says; no room.
    """
    folder = folder_of(file)
    if folder.is_dir():
        if _complete(folder):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    pre = _header(file)
    with cache.making(folder, _GROWTH * file.stat().st_size) as aside:
        if aside is not None:
            _convert(file, aside, pre)
    return folder


def refuse(file: Path) -> None:
    """Check what can be checked of a file without converting it.

    Raises:
        UserError: no GGUF file, one that is cut off, or of another architecture.
    """
    _header(file)


def _complete(folder: Path) -> bool:
    """Whether a conversion is complete; the length of the weights is checked, not their bytes."""
    try:
        with safe_open(folder / WEIGHTS, "np"):
            return (folder / "config.json").is_file() and (folder / "tokenizer.json").is_file()
    except (SafetensorError, OSError):
        return False


def _header(file: Path) -> str:
    """Check a file's beginning; return its ``tokenizer.ggml.pre``.

    Raises:
        UserError: see ``converted``.
    """
    from gguf import GGUFReader

    with file.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise UserError(
                f"File {file.name!r} is no GGUF file: it does not begin with 'GGUF'. Allowed: a "
                "complete .gguf file; fetch it again."
            )
    try:
        reader = GGUFReader(file)
        kind = str(reader.fields["general.architecture"].contents())
        field = reader.fields.get("tokenizer.ggml.pre")
        pre = "" if field is None else str(field.contents())
    except Exception as error:  # the reader raises what NumPy does where a file ends early
        raise UserError(
            f"File {file.name!r} cannot be read as GGUF, it is damaged or cut off "
            f"({type(error).__name__}). Allowed: a complete .gguf file; fetch it again."
        ) from error
    if kind not in ARCHITECTURES:
        raise UserError(
            f"File {file.name!r} holds a model of architecture {kind!r}. Allowed: "
            f"{', '.join(ARCHITECTURES)}."
        )
    return pre


def _convert(file: Path, folder: Path, pre: str) -> None:
    # Imported here, because the runner uses ``folder_of`` without torch.
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers(), _unwatched(), _named(file):
        common = {"gguf_file": file.name, "local_files_only": True}
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **common)
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(file.parent), dtype="float32", **common
        )
        _restore_digits(tokenizer, pre)
        _refuse_joined_digits(tokenizer, pre, file)
        tokenizer.save_pretrained(str(folder))
        # A model that was read from GGUF counts as quantized, and save_pretrained refuses those.
        model.config.__dict__.pop("quantization_config", None)
        model.config.save_pretrained(str(folder))
        model.generation_config.save_pretrained(str(folder))
        shared = set(getattr(model, "_tied_weights_keys", None) or ())
        tied = bool(model.config.tie_word_embeddings)
        weights = {
            name: tensor.contiguous()
            for name, tensor in model.state_dict().items()
            if not (tied and name in shared)
        }
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


@contextmanager
def _unwatched() -> Iterator[None]:
    """Hide the GGUF reader's progress bar where nobody watches; it has no option for that."""
    with nullcontext() if progress.watched() else redirect_stderr(io.StringIO()):
        yield


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Turn errors of the libraries below into one line that names the file."""
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0][:200] if lines else type(error).__name__
        raise UserError(
            f"File {file.name!r} cannot be converted: {reason}. Allowed: a complete .gguf file of "
            f"{', '.join(ARCHITECTURES)}."
        ) from error


def _restore_digits(tokenizer: Any, pre: str) -> None:
    """Cut before and after every digit where the file says so and transformers left it out."""
    fast = tokenizer.backend_tokenizer
    if pre in _SINGLE_DIGITS and "Digits" not in repr(fast.pre_tokenizer):
        steps = [pre_tokenizers.Digits(individual_digits=True)]
        if fast.pre_tokenizer is not None:
            steps.append(fast.pre_tokenizer)
        fast.pre_tokenizer = pre_tokenizers.Sequence(steps)


def _refuse_joined_digits(tokenizer: Any, pre: str, file: Path) -> None:
    if pre in _SINGLE_DIGITS and (text := _joined(tokenizer)):
        raise UserError(
            f"File {file.name!r} is refused: its tokenizer ({pre}) cuts numbers into digits, but "
            f"as {type(tokenizer).__name__} it does not ({text!r}). Allowed: a folder with the "
            "model's own tokenizer.json."
        )


def _joined(tokenizer: Any) -> str:
    """A text in which one token holds several digits; empty if there is none."""
    for text in _DIGITS:
        for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
            if sum(character.isdigit() for character in tokenizer.decode([token])) > 1:
                return text
    return ""
