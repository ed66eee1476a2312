"""Arguments of public calls, checked against their annotations: one line instead of a traceback.

    @checked
    def attach(block: int, share: float = 0.2) -> None: ...

    attach("3")   UserError: attach: block is '3' (str). Allowed: a whole number.

NumPy's integers and floats count as Python's; a bool is not a number. Annotations that cannot be
checked (protocols, unions with them) are skipped. Where a class of this package is not a dataclass
(a grid, a model), an object of a class from outside the package may stand in, as in tests.
"""

from __future__ import annotations

import inspect
import os
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache, wraps
from typing import Any, Literal, ParamSpec, TypeVar

import numpy as np

from oocr_lib.util.errors import UserError, short

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_REFUSED = object()  # what a reader returns for a value that is not of its kind
_Reader = Callable[[Any], Any]
_ITEMS = (Sequence, Collection, Iterable, list, tuple, set, frozenset)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check (and for NumPy numbers convert) the arguments of every call of ``function``.

    Raises:
        UserError: at the call, naming the function, the argument, its value and what is allowed.
    """
    signature = inspect.signature(function)
    readers: dict[str, tuple[_Reader, str]] = {}
    name = function.__qualname__.removesuffix(".__init__")

    def prepare() -> None:
        hints = _hints(function)
        for parameter in signature.parameters.values():
            plain = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if plain and parameter.name in hints and parameter.name != "self":
                reader = _reader(hints[parameter.name])
                if reader is not None:
                    readers[parameter.name] = (reader, _words(hints[parameter.name]))

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not call.__dict__.get("_ready"):  # annotations may name what is defined further down
            prepare()
            call.__dict__["_ready"] = True
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            names = ", ".join(p for p in signature.parameters if p != "self")
            raise UserError(f"{name}: {error}. Allowed: {names}.") from error
        for argument, value in bound.arguments.items():
            if argument in readers:
                read, words = readers[argument]
                converted = read(value)
                if converted is _REFUSED:
                    raise UserError(
                        f"{name}: {argument} is {short(value)} ({type(value).__name__}). "
                        f"Allowed: {words}."
                    )
                bound.arguments[argument] = converted
        return function(*bound.args, **bound.kwargs)

    return call


def checked_fields(cls: type[T]) -> type[T]:
    """Check the fields of a dataclass in the same way: put it above ``@dataclass``."""
    cls.__init__ = checked(cls.__init__)  # type: ignore[method-assign]
    return cls


def check_seed(seed: int) -> int:
    """The seed as an int, if every random generator accepts it.

    Raises:
        UserError: anything but a whole number from 0 to 2**32 - 1.
    """
    number = _integer(seed)
    if number is _REFUSED or not 0 <= number < 2**32:
        raise UserError(f"Seed {short(seed)} cannot be used. Allowed: 0 to {2**32 - 1}, whole.")
    return int(number)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations by parameter; names imported only for type checking count as ``Any``."""
    unknown: dict[str, Any] = {}
    while True:
        try:
            return typing.get_type_hints(function, localns=unknown)
        except NameError as error:
            unknown[str(error.name)] = Any


@cache
def _reader(hint: Any) -> _Reader | None:
    """What converts a value or returns ``_REFUSED``; None for annotations that are not checked."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        options = [_reader(option) for option in args]
        return None if None in options else _first_of([o for o in options if o is not None])
    if origin is Literal:
        return _instance(tuple({type(value) for value in args}))  # ``choose`` checks the value
    simple = {int: _integer, float: _number, bool: _boolean, str: _text, type(None): _none}
    if isinstance(hint, type) and hint in simple:
        return simple[hint]
    if hint is os.PathLike or origin is os.PathLike:
        return _instance(os.PathLike)
    if origin in _ITEMS or hint in _ITEMS:
        item = _reader(_item(hint))
        return _items(origin or hint, item)
    if origin in (Mapping, dict) or hint in (Mapping, dict) or typing.is_typeddict(hint):
        return _instance(Mapping)
    if hint is Callable or origin is Callable:
        return lambda value: value if callable(value) else _REFUSED
    if hint is Any or not isinstance(hint, type) or getattr(hint, "_is_protocol", False):
        return None
    return _instance(hint) if is_dataclass(hint) or not _ours(hint) else _stand_in(hint)


def _item(hint: Any) -> Any:
    """The annotation of a list's items; ``Any`` where they differ, as in a pair."""
    args = typing.get_args(hint)
    pair = typing.get_origin(hint) is tuple and (len(args) != 2 or args[1] is not Ellipsis)
    return args[0] if args and not pair else Any


def _integer(value: Any) -> Any:
    if isinstance(value, (bool, np.bool_)):
        return _REFUSED
    return int(value) if isinstance(value, (int, np.integer)) else _REFUSED


def _number(value: Any) -> Any:
    if isinstance(value, (bool, np.bool_)):
        return _REFUSED
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.floating):
        return float(value)
    return value if isinstance(value, (int, float)) else _REFUSED


def _boolean(value: Any) -> Any:
    return bool(value) if isinstance(value, (bool, np.bool_)) else _REFUSED


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else _REFUSED


def _none(value: Any) -> Any:
    return None if value is None else _REFUSED


def _instance(kind: Any) -> _Reader:
    return lambda value: value if isinstance(value, kind) else _REFUSED


def _ours(kind: type) -> bool:
    return kind.__module__.split(".")[0] == "oocr_lib"


def _stand_in(kind: type) -> _Reader:
    def read(value: Any) -> Any:
        foreign = type(value).__module__ != "builtins" and not _ours(type(value))
        return value if foreign or isinstance(value, kind) else _REFUSED

    return read


def _first_of(options: Sequence[_Reader]) -> _Reader:
    def read(value: Any) -> Any:
        return next((good for o in options if (good := o(value)) is not _REFUSED), _REFUSED)

    return read


def _items(kind: Any, item: _Reader | None) -> _Reader:
    """A reader of lists. Text is not a list, and iterators are not consumed."""

    def read(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, (str, bytes)) or not isinstance(value, kind):
            return _REFUSED
        # Long lists (rows, questions) come from this library; their first item is enough to see
        # that something else was passed.
        if item is None or not isinstance(value, (list, tuple)) or not value:
            return value
        sample = value if len(value) <= 64 else value[:1]
        converted = [item(entry) for entry in sample]
        if any(entry is _REFUSED for entry in converted):
            return _REFUSED
        unchanged = len(value) > 64 or all(a is b for a, b in zip(converted, value, strict=True))
        return value if unchanged else type(value)(converted)

    return read


def _words(hint: Any) -> str:
    """What an annotation allows, in words."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(option) for option in args))
    if origin is Literal:
        return ", ".join(map(repr, args))
    simple = {
        int: "a whole number",
        float: "a number",
        bool: "True or False",
        str: "text",
        type(None): "None",
    }
    if isinstance(hint, type) and hint in simple:
        return simple[hint]
    if hint is os.PathLike or origin is os.PathLike:
        return "a path"
    if hint is Callable or origin is Callable:
        return "a function"
    if origin in _ITEMS or hint in _ITEMS:
        item = _item(hint)
        return "a list" if item is Any else f"a list (each {_words(item)})"
    if origin in (Mapping, dict) or hint in (Mapping, dict) or typing.is_typeddict(hint):
        return "a dict"
    return getattr(origin or hint, "__name__", str(hint))
