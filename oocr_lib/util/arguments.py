"""Arguments of public calls, checked against their annotations: one line instead of a traceback.

    @checked
    def attach(block: int, share: float = 0.2) -> None: ...

    attach("3")   UserError: attach: block is '3' (str). Allowed: a whole number.

NumPy's integers and floats are taken as Python's; a bool is no number. Annotations that are not
understood (protocols, unions with them) are not checked. For a class of this package that holds no
plain fields (a grid, a model) an object of a foreign class may stand in, as tests do.
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

_REFUSED = object()  # what a reader of values answers when a value is not of its kind
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
                found = _reader(hints[parameter.name])
                if found is not None:
                    readers[parameter.name] = (found, _words(hints[parameter.name]))

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not call.__dict__.get("_ready"):  # annotations may name what is defined further below
            prepare()
            call.__dict__["_ready"] = True
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            known = ", ".join(p for p in signature.parameters if p != "self")
            raise UserError(f"{name}: {error}. Allowed: {known}.") from error
        for argument, value in bound.arguments.items():
            if argument in readers:
                read, words = readers[argument]
                good = read(value)
                if good is _REFUSED:
                    raise UserError(
                        f"{name}: {argument} is {short(value)} ({type(value).__name__}). "
                        f"Allowed: {words}."
                    )
                bound.arguments[argument] = good
        return function(*bound.args, **bound.kwargs)

    return call


def checked_fields(cls: type[T]) -> type[T]:
    """The same for the fields of a dataclass: ``@checked_fields`` above ``@dataclass``."""
    cls.__init__ = checked(cls.__init__)  # type: ignore[method-assign]
    return cls


def check_seed(seed: int) -> int:
    """The seed, if every random generator takes it.

    Raises:
        UserError: anything but a whole number from 0 to 2**32 - 1.
    """
    found = _whole(seed)
    if found is _REFUSED or not 0 <= found < 2**32:
        raise UserError(f"Seed {short(seed)} cannot be used. Allowed: 0 to {2**32 - 1}, whole.")
    return int(found)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations by parameter; a name that is imported for type checking alone may be anything."""
    unknown: dict[str, Any] = {}
    while True:
        try:
            return typing.get_type_hints(function, localns=unknown)
        except NameError as error:
            unknown[str(error.name)] = Any


@cache
def _reader(hint: Any) -> _Reader | None:
    """Reads values of an annotation: the value, converted, or ``_REFUSED``; None: not checked."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        options = [_reader(option) for option in inside]
        return None if None in options else _first_of([o for o in options if o is not None])
    if origin is Literal:
        return _instance(tuple({type(value) for value in inside}))  # ``choose`` knows the rest
    simple = {int: _whole, float: _number, bool: _switch, str: _text, type(None): _nothing}
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
    """What every item of a list's annotation is; ``Any`` where items differ, as in a pair."""
    inside = typing.get_args(hint)
    pair = typing.get_origin(hint) is tuple and (len(inside) != 2 or inside[1] is not Ellipsis)
    return inside[0] if inside and not pair else Any


def _whole(value: Any) -> Any:
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


def _switch(value: Any) -> Any:
    return bool(value) if isinstance(value, (bool, np.bool_)) else _REFUSED


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else _REFUSED


def _nothing(value: Any) -> Any:
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
    """Reads a list of items. A text is no list; an iterator is not used up by looking at it."""

    def read(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, (str, bytes)) or not isinstance(value, kind):
            return _REFUSED
        # Long lists (rows, questions) come from this library; looking at their first items is
        # enough to tell that something else was passed.
        if item is None or not isinstance(value, (list, tuple)) or not value:
            return value
        looked = value if len(value) <= 64 else value[:1]
        good = [item(one) for one in looked]
        if any(one is _REFUSED for one in good):
            return _REFUSED
        same = len(value) > 64 or all(a is b for a, b in zip(good, value, strict=True))
        return value if same else type(value)(good)

    return read


def _words(hint: Any) -> str:
    """What an annotation allows, for a reader."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(option) for option in inside))
    if origin is Literal:
        return ", ".join(map(repr, inside))
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
        named = "" if _item(hint) is Any else _words(_item(hint))
        return f"a list (each {named})" if named else "a list"
    if origin in (Mapping, dict) or hint in (Mapping, dict) or typing.is_typeddict(hint):
        return "a dict"
    return getattr(origin or hint, "__name__", str(hint))
