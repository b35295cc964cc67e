"""What annotations mean: whether a value is of a kind, what becomes of it, and how to say the kind.

Plain types mean what they say: `float` is any number, `int` a whole number of Python's or NumPy's,
and neither is a truth value; `Iterable[int]` is any several of these, an iterator too, which comes
out as a tuple. A `Kind` says more:

>>> Even = Annotated[int, Kind("an even number", lambda n: n % 2 == 0)]
>>> read(Even, np.int64(4)), isinstance(read(Even, 3), Unfit), words_of(Even | None)
(4, True, 'an even number or None')
"""

import dataclasses
import itertools
import numbers
import operator
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import keras
import numpy as np

from keras_iplt.errors import ModelError, OptionError, PruningError

__all__ = [
    "Kind",
    "Unfit",
    "error_of",
    "is_integer",
    "is_real",
    "one_of",
    "read",
    "words_of",
]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is expected of a value beyond its type: for `Annotated`.

    Attributes:
        words: what is expected, in a sentence "expected …, received: …".
        fits: whether a value of the type is meant.
        error: what is raised where none is.
        passed_on: what the function gets in place of the value.
    """

    words: str
    fits: Callable[[Any], Any] = lambda value: True
    error: type[PruningError] = OptionError
    passed_on: Callable[[Any], Any] = lambda value: value


def one_of(*choices: Any, error: type[PruningError] = OptionError) -> Kind:
    """One of a few values."""
    words = _listed([repr(choice) for choice in choices])
    return Kind(words if len(choices) < 3 else f"one of {words}", choices.__contains__, error)


class Unfit:
    """In place of a value of another kind: the value, or the entry of it that is to blame."""

    def __init__(self, value: Any) -> None:
        self.value = value


def is_real(value: Any) -> bool:
    """Whether it is a number, and not a truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_integer(value: Any) -> bool:
    """Whether it is a whole number, and not a truth value."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


# -- reading ---------------------------------------------------------------------------------------


def read(kind: Any, value: Any) -> Any:
    """The value as it is passed on, or an `Unfit`."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        found = read(args[0], value)
        for more in args[1:]:
            if isinstance(more, Kind) and not isinstance(found, Unfit):
                found = more.passed_on(found) if more.fits(found) else Unfit(value)
        return found
    if origin in (typing.Union, types.UnionType):
        unfit = Unfit(value)
        for one in args:
            found = read(one, value)
            if not isinstance(found, Unfit):
                return found
            unfit = unfit if found.value is value else found
        return unfit
    if origin is typing.Literal:
        fits = isinstance(value, (str, int, type(None))) and value in args
    elif kind in _PLAIN:
        is_one, made = _PLAIN[kind]
        return made(value) if is_one(value) else Unfit(value)
    elif origin is type:
        fits = isinstance(value, type) and issubclass(value, args)
    elif origin is None or not args or not issubclass(origin, Iterable):
        fits = isinstance(value, origin or kind)
    else:
        return _read_several(origin, args, value)
    return value if fits else Unfit(value)


def _read_several(origin: type, kinds: tuple[Any, ...], value: Any) -> Any:
    """A container as it is passed on: itself, unless it ends or an entry becomes another."""
    listed = isinstance(value, list) or (isinstance(value, np.ndarray) and value.ndim > 0)
    fits = listed or (isinstance(value, origin) and not isinstance(value, (str, bytes, np.ndarray)))
    if not fits or isinstance(value, Mapping) != issubclass(origin, Mapping):
        return Unfit(value)
    if origin is tuple:  # which JSON has lists for
        value = tuple(value)
    if all(kind is Any for kind in kinds):
        return value
    made: Any = tuple
    old = tuple(value)
    if isinstance(value, Mapping):
        made, old = dict, tuple(itertools.chain.from_iterable(value.items()))
        kinds = kinds * len(value)
    elif len(kinds) == 1 or ... in kinds:
        kinds = kinds[:1] * len(old)
    elif len(kinds) != len(old):
        return Unfit(value)
    new = tuple(read(kind, entry) for kind, entry in zip(kinds, old, strict=True))
    if wrong := [found for found in new if isinstance(found, Unfit)]:
        return wrong[0]
    if isinstance(value, (list, tuple, Mapping)) and all(map(operator.is_, old, new)):
        return value
    return made(zip(new[::2], new[1::2], strict=True) if made is dict else new)


_PLAIN: dict[Any, tuple[Callable[[Any], bool], Callable[[Any], Any]]] = {
    None: (lambda x: x is None, lambda x: x),
    type(None): (lambda x: x is None, lambda x: x),
    float: (is_real, lambda x: x),
    int: (is_integer, int),
    bool: (lambda x: isinstance(x, (bool, np.bool_)), bool),
    str: (lambda x: isinstance(x, str), lambda x: x),
}


# -- saying ----------------------------------------------------------------------------------------

_NAMES: dict[Any, str] = {
    **{None: "None", type(None): "None", float: "a number", int: "an integer", bool: "a bool"},
    **{str: "a str", Callable: "a function", os.PathLike: "a path"},
}
_MAKERS = {"Graph": "trace", "Sparsity": "sparsity.measure"}
_MAKERS |= {name: name.lower() for name in ("Plan", "Profile", "Sensitivity", "Smallest")}


def words_of(kind: Any) -> str:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        words = [more.words for more in args[1:] if isinstance(more, Kind)]
        return words[-1] if words else words_of(args[0])
    if origin in (typing.Union, types.UnionType):
        return _listed(list(dict.fromkeys(map(words_of, args))))
    if origin is typing.Literal:
        return _listed([repr(choice) for choice in args])
    if (origin or kind) in _NAMES:
        return _NAMES[origin or kind]
    if origin is type:
        return f"a subclass of {words_of(args[0]).partition(' ')[2]}"
    if origin is not None and issubclass(origin, Mapping):
        return f"a mapping of {' to '.join('anything' if a is Any else words_of(a) for a in args)}"
    if origin is not None and issubclass(origin, typing.cast(Any, Iterable)):
        return f"several ({words_of(args[0])} each)" if args[0] is not Any else "several"
    whole = f"{kind.__module__.partition('.')[0]}.{kind.__name__}".removeprefix("builtins.")
    maker = _MAKERS.get(kind.__name__)
    return f"a {whole}" + (f", as keras_iplt.{maker} makes one" if maker else "")


def _listed(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def error_of(kind: Any) -> type[PruningError]:
    """What is raised: of several kinds, that of the first."""
    if typing.get_origin(kind) is Annotated:
        more = [k.error for k in typing.get_args(kind) if isinstance(k, Kind)]
        return more[-1] if more else OptionError
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return error_of(typing.get_args(kind)[0])
    return ModelError if kind is keras.Model else OptionError
