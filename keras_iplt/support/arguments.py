"""What people give, held against what a signature says before anything is done with it.

`@checked` above a function reads the annotations of its parameters, and above a dataclass those of
its fields:

>>> Even = Annotated[int, Kind("an even number", lambda n: n % 2 == 0)]
>>> @checked
... def half(n: Even) -> int:
...     return n // 2
>>> half(3)
Traceback (most recent call last):
    ...
keras_iplt.errors.OptionError: n: expected an even number, received: 3
"""

import contextlib
import dataclasses
import functools
import inspect
import itertools
import math
import os
import pathlib
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, TypeVar

import keras
import numpy as np

from keras_iplt.errors import DataError, OptionError, PruningError
from keras_iplt.support.kinds import (
    Kind,
    Unfit,
    error_of,
    is_integer,
    is_real,
    one_of,
    read,
    words_of,
)

__all__ = [
    "Count",
    "Data",
    "Directory",
    "Epoch",
    "Kind",
    "NotNegative",
    "Path",
    "Positive",
    "Power",
    "Share",
    "Step",
    "Verbosity",
    "blaming",
    "check_count",
    "check_share",
    "checked",
    "expect",
    "is_integer",
    "is_real",
    "kinds_of",
    "one_of",
    "said",
    "several",
    "take_options",
]

T = TypeVar("T")


def checked(thing: T) -> T:
    """A function that refuses arguments of other kinds than its annotations say, before it begins.

    They are called by name. Of a dataclass, all that makes one."""
    if isinstance(thing, type):
        setattr(thing, "__init__", checked(getattr(thing, "__init__")))  # noqa: B009, B010
        return thing
    function: Any = thing
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        wrong = []
        for name, kind in kinds_of(function).items():
            if name in given.arguments:
                try:
                    given.arguments[name] = expect(name, kind, given.arguments[name])
                except PruningError as error:
                    wrong.append(error)
        if wrong:
            raise type(wrong[0])("; ".join(map(str, wrong)))
        return function(*given.args, **given.kwargs)

    setattr(call, "__signature__", signature)  # Keras asks for it, of layers # noqa: B010
    return typing.cast(T, call)


@functools.cache
def kinds_of(function: Callable[..., Any]) -> dict[str, Any]:
    """What the parameters of a function are annotated with, but for what it takes by any name."""
    function = inspect.unwrap(function)
    names = function.__globals__
    return {
        name: eval(p.annotation, names) if isinstance(p.annotation, str) else p.annotation
        for name, p in inspect.signature(function).parameters.items()
        if p.annotation is not p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }


def expect(name: str, kind: Any, value: Any) -> Any:
    """The value as it is passed on.

    Args:
        name: of the argument.
        kind: an annotation.
        value: what was given.
    """
    found = read(kind, value)
    if not isinstance(found, Unfit):
        return found
    error, received = error_of(kind), said(found.value)
    if error is DataError:
        received += f" of type {type(found.value).__name__}"
    raise error(f"{name}: expected {words_of(kind)}, received: {received}")


@contextlib.contextmanager
def blaming(who: str, error: type[PruningError] = OptionError) -> Iterator[None]:
    """What somebody's own code raises within keeps its cause, and says whose it is."""
    try:
        yield
    except (PruningError, NotImplementedError):  # of a method that is to be overridden
        raise
    except Exception as reason:  # whatever it is
        raise error(f"{who} raised {type(reason).__name__}: {reason}") from reason


def several(given: Any) -> list[Any]:
    """One thing, or several, as a list."""
    return [*given] if isinstance(given, Iterable) and not isinstance(given, str) else [given]


def take_options(kind: type[T], given: dict[str, Any]) -> T:
    """An object of a dataclass from those of some keywords that it has entries for.

    These are no longer among the keywords then."""
    names = [field.name for field in dataclasses.fields(typing.cast(Any, kind))]
    return kind(**{name: given.pop(name) for name in names if name in given})


def said(value: Any) -> str:
    """A value in a message, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # not ours: somebody's class
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= 300 else f"{text[:300]} …"


def check_share(name: str, value: Any) -> float:
    """`value` if it is a number in [0, 1)."""
    return expect(name, Share, value)


def check_count(name: str, value: Any) -> int:
    """`value` if it is a positive integer."""
    return expect(name, Count, value)


# -- kinds of which there is much use --------------------------------------------------------------


def _is_data(value: Any) -> bool:
    """Whether it may be arrays or batches: whether they fit a model is for later."""
    several = hasattr(value, "__iter__") or hasattr(value, "__getitem__")
    if not several or isinstance(value, (str, bytes, type, set, os.PathLike, keras.Layer)):
        return False
    first = value[0] if isinstance(value, tuple) and value else value
    if isinstance(first, (list, tuple, dict)):
        return bool(first)
    return tuple(getattr(first, "shape", ()))[:1] != (0,)


def _from_the_first(value: Any) -> Any:
    """An iterator, once it is known to have something in it."""
    if not isinstance(value, Iterator):
        return value
    for first in value:
        return itertools.chain([first], value)
    return Unfit(value)


def _as_float(value: Any) -> float:
    """Python's, of whatever class of it; NumPy's too are of one, and are written otherwise."""
    return (
        value if isinstance(value, float) and not isinstance(value, np.floating) else float(value)
    )


Share = Annotated[float, Kind("a number in [0, 1)", lambda x: 0 <= x < 1, passed_on=_as_float)]
Power = Annotated[float, Kind("a positive number", lambda x: 0 < x < math.inf)]
Step = Annotated[float, Kind("a number in (0, 1)", lambda x: 0 < x < 1, passed_on=_as_float)]
Positive = Annotated[float, Kind("a positive number", lambda x: x > 0)]
NotNegative = Annotated[float, Kind("a number that is not negative", lambda x: x >= 0)]
Count = Annotated[int, Kind("a positive integer", lambda n: n >= 1)]
Epoch = Annotated[int, Kind("an integer from 0", lambda n: n >= 0)]
Verbosity = Annotated[int | bool, one_of(0, 1, 2)]
Path = Annotated[
    str | os.PathLike[str], Kind("a path", lambda x: os.fspath(x) and "\0" not in os.fspath(x))
]
Directory = Annotated[Path, Kind("a directory", passed_on=pathlib.Path)]
Data = Annotated[
    Any,
    Kind(
        "x, (x, y), a PyDataset, a tf.data.Dataset or an iterable of batches, at least one batch",
        _is_data, DataError, _from_the_first,
    ),
]  # fmt: skip
