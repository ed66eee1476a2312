"""Files that are complete or absent: JSON and safetensors, written aside and then moved.

Loading refuses what is damaged, changed, foreign or of another shape, and says why: tensor files
carry a hash of their whole content, and numbers must be finite. No pickles.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

HEADER_KEY = "oocr_lib"  # our metadata, as JSON, in the safetensors header
FORMAT_KEY = "oocr_lib_format"
HASH_KEY = "oocr_lib_sha256"  # of metadata, names, types, shapes and bytes
FORMAT = "2"  # 1 had no hash


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder: renamed to ``path`` on success, deleted otherwise.

    Creates missing parent folders. The temporary name keeps the suffix, which some writers read.
    Readers see the old file or the new one, never part of one.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.stem}.{secrets.token_hex(6)}.tmp{target.suffix}")
    try:
        yield aside
        with open(aside, "rb") as file:
            os.fsync(file.fileno())  # the content must be on the disk before the name
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def writable_folder(folder: Path, setting: str) -> None:
    """Create a folder if there is none, and check that files can be written there.

    Args:
        setting: the setting that names the folder, for the message.

    Raises:
        UserError: it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"Cannot write to {str(folder)!r}: {error.strerror}. Give another {setting}."
        ) from error


@checked
def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``content`` as indented JSON.

    Raises:
        UserError: something in it is not JSON, for instance NaN or an array.
    """
    text = _to_json(content, str(path), indent=2) + "\n"
    with atomic_path(path) as aside:
        aside.write_text(text, encoding="utf-8")


@checked
def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        UserError: it is missing, or not JSON (for instance cut off).
    """
    _require_file(path)
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"File {str(path)!r} is not valid JSON ({error}). Allowed: a complete JSON file; "
            "delete it and run again."
        ) from error


@checked
def save_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
) -> None:
    """Write named tensors of any shape, with JSON-able ``metadata`` in the header.

    Raises:
        UserError: numbers that are not finite, or metadata that is not JSON.
    """
    text = _to_json(dict(metadata), str(path))
    # Copies, because safetensors refuses tensors that share memory.
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    _check_finite(path, copies)
    header = {HEADER_KEY: text, FORMAT_KEY: FORMAT, HASH_KEY: _hash(text, copies)}
    from safetensors.torch import save_file  # loads torch, which the runner does without

    with atomic_path(path) as aside:
        save_file(copies, aside, metadata=header)


@checked
def load_tensors(
    path: str | os.PathLike[str],
    expected_shapes: Mapping[str, Sequence[int]] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``save_tensors`` wrote: (name to tensor on the CPU, metadata).

    Args:
        expected_shapes: if given, exactly these names with exactly these shapes must be there.

    Raises:
        UserError: missing, truncated, not written by this library, changed since, not finite, or
            other names or shapes.
    """
    _require_file(path)
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"File {str(path)!r} is truncated or not a safetensors file ({error}). Allowed: a "
            "complete file; delete it and write it again."
        ) from error
    metadata = _our_metadata(path, header)
    if header.get(HASH_KEY) != _hash(header[HEADER_KEY], tensors):
        raise UserError(
            f"File {str(path)!r} was changed after it was written: its content does not have the "
            "hash in its header. Allowed: a file as this library wrote it; write it again."
        )
    _check_finite(path, tensors)
    if expected_shapes is not None:
        _check_shapes(path, tensors, expected_shapes)
    return tensors, metadata


def _our_metadata(path: str | os.PathLike[str], header: Mapping[str, str]) -> dict[str, Any]:
    version = header.get(FORMAT_KEY)
    if version != FORMAT or HEADER_KEY not in header:
        reason = "has no metadata of this library" if version is None else f"has format {version}"
        raise UserError(
            f"File {str(path)!r} {reason}. Allowed: safetensors files that this library wrote "
            f"(format {FORMAT})."
        )
    try:
        metadata = json.loads(header[HEADER_KEY])
    except ValueError as error:
        raise UserError(
            f"File {str(path)!r} has damaged metadata ({error}). Allowed: a file as this library "
            "wrote it; write it again."
        ) from error
    if not isinstance(metadata, dict):
        raise UserError(
            f"File {str(path)!r} has metadata that is no table. Allowed: a JSON object."
        )
    return metadata


def _hash(metadata: str, tensors: Mapping[str, Tensor]) -> str:
    import torch

    sha = hashlib.sha256(metadata.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"\n{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _check_finite(path: str | os.PathLike[str], tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        bad = int((~tensor.isfinite()).sum())
        if bad:
            raise UserError(
                f"Tensor {name!r} for file {str(path)!r} has {bad} of {tensor.numel()} numbers "
                "that are not finite. Allowed: finite numbers; train it again."
            )


def _check_shapes(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Sequence[int]],
) -> None:
    for name in sorted(set(expected) | set(tensors)):
        if name not in tensors:
            reason = f"lacks tensor {name!r}"
        elif name not in expected:
            reason = f"has an unexpected tensor {name!r}"
        elif tuple(tensors[name].shape) != tuple(expected[name]):
            reason = f"has tensor {name!r} of shape {tuple(tensors[name].shape)}"
        else:
            continue
        shapes = ", ".join(f"{key} {tuple(shape)}" for key, shape in sorted(expected.items())[:8])
        raise UserError(f"File {str(path)!r} {reason}. Allowed: {shapes}.")


def _require_file(path: str | os.PathLike[str]) -> None:
    if not Path(path).is_file():
        raise UserError(f"No file {str(path)!r}. Allowed: an existing file; check the path.")


def _to_json(content: Any, path: str, indent: int | None = None) -> str:
    try:
        return json.dumps(content, indent=indent, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"What should go into {path!r} is not JSON ({error}). Allowed: text, finite numbers, "
            "true/false, null, lists and tables."
        ) from error
