"""A file held as bytes, whose lines are cut out and parsed only on access.

A file of short chats takes six times its size as Python objects, but only its own size as bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, overload

T = TypeVar("T")


@dataclass
class FileBytes:
    """A file's bytes and where its lines begin.

    Attributes:
        starts: offset of every line, and of the end of the last one.
    """

    data: bytes
    starts: array[int] = field(default_factory=lambda: array("q", [0]))

    def line(self, number: int) -> bytes:
        """A line with its line break; numbers count from 1."""
        return self.data[self.starts[number - 1] : self.starts[number]]


class LazyRows(Sequence[T]):
    """The lines with these numbers, each parsed with ``read`` whenever it is accessed."""

    def __init__(self, file: FileBytes, numbers: Sequence[int], read: Callable[[bytes], T]) -> None:
        self._file, self._numbers, self._read = file, numbers, read

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        return self._read(self._file.line(self._numbers[index]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]


class MarkedLines(Mapping[int, bytes]):
    """Line number to bytes, for the lines whose byte in ``marked`` is 1."""

    def __init__(self, file: FileBytes, marked: bytearray) -> None:
        self._file, self._marked = file, marked

    def __len__(self) -> int:
        return self._marked.count(1)

    def __iter__(self) -> Iterator[int]:
        return (number for number, mark in enumerate(self._marked, start=1) if mark)

    def __getitem__(self, number: int) -> bytes:
        if not 0 < number <= len(self._marked) or not self._marked[number - 1]:
            raise KeyError(number)
        return self._file.line(number)
