"""Small changes of files, as they happen: a flipped bit, a lost byte, an edited JSON value."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

#: What stands in published files in place of something else.
_WORDS = (
    "", "relu", "silu", "gelu", "gelu_new", "llama", "gemma2", "gemma3_text", "gpt2", "float16",
    "GPT2Tokenizer", "GemmaTokenizer", "LlamaTokenizer", "PreTrainedTokenizerFast", "eager", "sdpa",
    "resid@1", "mlp_out@0", "user", "assistant", "system", "A", "B", "nan", "null", "true", "<unk>",
    "linear", "dynamic", "default", "sliding_attention", "full_attention", "holds", "é", "\ud83d",
)  # fmt: skip


def flipped(content: bytes, rng: random.Random) -> bytes:
    """One bit is another."""
    at = rng.randrange(len(content))
    changed = bytearray(content)
    changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def edited_bytes(content: bytes, rng: random.Random) -> bytes:
    """A bit flipped, bytes lost, doubled or put in, or the end cut off."""
    at = rng.randrange(len(content))
    size = rng.choice((1, 1, 2, 8))
    kind = rng.random()
    if kind < 0.6:
        return flipped(content, rng)
    if kind < 0.75:
        return content[:at] + content[at + size :]
    if kind < 0.85:
        return content[:at] + content[at : at + size] + content[at:]
    if kind < 0.95:
        return content[:at] + bytes(rng.randrange(256) for _ in range(size)) + content[at:]
    return content[:at]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything inside a JSON value."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*path, key))


def edited_json(
    content: Any, rng: random.Random, choose: Callable[[list[Any]], Any] | None = None
) -> Any:
    """One value replaced, taken out, renamed, added, doubled or moved.

    Args:
        choose: picks a path among all; by default evenly.
    """
    made = copy.deepcopy(content)
    every = list(places(made))
    path = choose(every) if choose else rng.choice(every)
    parent = made
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    kind = rng.random()
    if kind < 0.6:
        parent[key] = _other(parent[key], rng)
    elif kind < 0.75:
        del parent[key]
    elif isinstance(parent, dict):
        if kind < 0.85:
            parent[f"{key}_"] = parent.pop(key)
        else:
            parent[rng.choice(("id", "weight", "use_cache", "tie_word_embeddings", "x"))] = _other(
                parent[key], rng
            )
    elif kind < 0.85:
        parent.insert(rng.randrange(len(parent) + 1), parent[key])
    else:
        parent.append(parent.pop(rng.randrange(len(parent))))
    return made


def _other(value: Any, rng: random.Random) -> Any:
    """Another value, mostly of the same type; numbers stay small, so that nothing explodes."""
    if rng.random() < 0.15:
        return rng.choice((None, True, False, 0, 1, -1, 0.5, "x", [], {}, [value]))
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        near = (value + 1, value - 1, -value, 0, 1, 2, 0.5, value * 2, value / 2, value * 1.001)
        return rng.choice(near)
    if isinstance(value, str):
        at = rng.randrange(len(value) + 1)
        return rng.choice((rng.choice(_WORDS), value[:at] + value[at + 1 :], value + "x"))
    if isinstance(value, list):
        return rng.choice(([], value[:-1], value[::-1], [*value, *value[:1]]))
    if isinstance(value, dict):
        return rng.choice(({}, dict(list(value.items())[:-1])))
    return rng.choice((0, 1, "x", True, []))


def edited_text(content: bytes, rng: random.Random) -> bytes:
    """A JSON file with a change of its bytes or of its structure."""
    if rng.random() < 0.4:
        return edited_bytes(content, rng)
    return dumped(edited_json(json.loads(content), rng))


def dumped(content: Any) -> bytes:
    """JSON as bytes; half of a surrogate pair stays escaped."""
    return json.dumps(content, indent=1).encode()


def edited_lines(content: bytes, rng: random.Random) -> bytes:
    """A file of JSON lines with a change of its bytes, of one line, or of the lines' order."""
    kind, lines = rng.random(), content.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    if kind < 0.35:
        return edited_bytes(content, rng)
    if kind < 0.85:
        edited = edited_json(json.loads(lines[at]), rng)
        end = rng.choice((b"\n", b"\n", b"\r\n"))
        lines[at] = (
            json.dumps(edited, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
            + end
        )
    elif kind < 0.9:
        del lines[at]
    elif kind < 0.95:
        lines.insert(at, rng.choice((b"\n", b"{}\n", b"[]\n", lines[at])))
    else:
        lines[at] = rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b")) + lines[at]
    return b"".join(lines)


def edited_tensors(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file with a change of its bytes or of its header."""
    if rng.random() < 0.6:
        return edited_bytes(content, rng)
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    metadata = header.get("__metadata__", {})
    if metadata and rng.random() < 0.7:  # inside the texts of the header, which are JSON again
        key = rng.choice(sorted(metadata))
        try:
            metadata[key] = json.dumps(edited_json(json.loads(metadata[key]), rng))
        except (ValueError, TypeError, AttributeError):  # no JSON, or nothing inside
            metadata[key] = str(_other(metadata[key], rng))
    else:
        header = edited_json(header, rng)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def edited_run(content: bytes, rng: random.Random) -> bytes:
    """A file of a finished run, JSON or tensors, with a change."""
    return (edited_text if content.startswith(b"{") else edited_tensors)(content, rng)
