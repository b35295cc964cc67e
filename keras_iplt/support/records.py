"""JSON that may come from anyone, read as what types say that it is.

>>> import dataclasses
>>> @dataclasses.dataclass(frozen=True)
... class Step:
...     layer: str
...     left: Count
>>> read(list[Step], [{"layer": "conv", "left": 3}])
[Step(layer='conv', left=3)]
>>> read(list[Step], [{"layer": "conv", "left": -3}], "steps")
Traceback (most recent call last):
...
ValueError: steps[0].left: expected a number in [0, 1e+15], received: -3
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import re
import reprlib
import types
from collections.abc import Callable
from typing import Annotated, Any, NoReturn, Union, get_args, get_origin, get_type_hints

from keras_iplt.support.arguments import is_integer, is_real

__all__ = [
    "Count",
    "Matching",
    "Number",
    "Positive",
    "Share",
    "Within",
    "parse",
    "read",
    "read_json",
]


@dataclasses.dataclass(frozen=True)
class Within:
    """Numbers in a range; NaN is in none."""

    low: float
    high: float = math.inf

    def holds(self, value: Any) -> bool:
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        return f"a number in [{self.low:g}, {self.high:g}]"


@dataclasses.dataclass(frozen=True)
class Matching:
    """Texts that a regular expression describes as a whole."""

    pattern: str

    def holds(self, value: Any) -> bool:
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return f"a text like {self.pattern}"


Count = Annotated[int, Within(0, 10**15)]  # exact as a float, too
Number = Annotated[float, Within(-math.inf)]  # not NaN
Positive = Annotated[float, Within(0)]  # or zero
Share = Annotated[float, Within(0, 1)]

_KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", is_integer),
    float: ("a number", is_real),
    str: ("a text", lambda value: isinstance(value, str)),
    list: ("a list", lambda value: isinstance(value, (list, tuple))),
    tuple: ("a list", lambda value: isinstance(value, (list, tuple))),
    dict: ("names with values", lambda value: isinstance(value, dict)),
}


def read(kind: Any, value: Any, name: str = "") -> Any:
    """What JSON says, as an object of a type; or a `ValueError` that names the place.

    Args:
        kind: a dataclass, which there may be no more of; `list`, `dict` and `tuple` of types;
            `bool`, `int`, `float` (NaN too), `str`; one of these or None, which what is missing
            is, too; `Annotated`, with what `Within` and `Matching` expect; `Any`.
        value: as `json.loads` returns it.
        name: what errors call it.
    """
    of, parts = get_origin(kind) or kind, get_args(kind)
    if of is Any:
        return value
    if of is Annotated:
        found = read(parts[0], value, name)
        for condition in parts[1:]:
            if not condition.holds(found):
                _refuse(name, condition, value)
        return found
    if of in (Union, types.UnionType):
        (other,) = (part for part in parts if part is not types.NoneType)
        return None if value is None else read(other, value, name)
    if dataclasses.is_dataclass(of):
        return _record(of, read(dict, value, name), name)
    called, is_one = _KINDS[of]
    if not is_one(value):
        _refuse(name, called, value)
    if of is float:
        return _number(value, name)
    if of is list and parts:
        return [read(parts[0], one, f"{name}[{i}]") for i, one in enumerate(value)]
    if of is tuple:
        if len(value) != len(parts):
            _refuse(name, f"{len(parts)} values", value)
        pairs = enumerate(zip(parts, value, strict=True))
        return tuple(read(part, one, f"{name}[{i}]") for i, (part, one) in pairs)
    if of is dict and parts:
        return {key: read(parts[1], one, f"{name}[{key!r}]") for key, one in value.items()}
    return value


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except OverflowError:
        _refuse(name, "a number that a float can hold", value)


def _record(kind: Any, content: dict[str, Any], name: str) -> Any:
    hints, inside = get_type_hints(kind, include_extras=True), f"{name}." if name else ""
    keys = [field.name for field in dataclasses.fields(kind)]
    for key in content:
        if key not in keys:
            _refuse(name, f"nothing but {', '.join(keys)}", key)
    return kind(**{key: read(hints[key], content.get(key), inside + key) for key in keys})


def _refuse(name: str, expected: Any, value: Any) -> NoReturn:
    place = f"{name}: " if name else ""
    raise ValueError(f"{place}expected {expected}, received: {reprlib.repr(value)}")


def parse(kind: Any, text: str) -> Any:
    """What JSON text says, as an object of a type; or a `ValueError`."""
    try:
        return read(kind, json.loads(text))
    except RecursionError as error:
        raise ValueError("lists within lists without an end") from error


def read_json(kind: Any, path: pathlib.Path) -> Any:
    """What a file holds, as an object of a type; or a `ValueError`, or an `OSError`. A pipe is not
    waited for."""
    if not path.is_file():
        raise ValueError("it is a directory, a device or a pipe")
    return parse(kind, path.read_text(encoding="utf-8"))
