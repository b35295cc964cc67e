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
ValueError: steps[0].left: expected a whole number in [0, 1e+15], received: -3
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import re
import reprlib
import types
from typing import Annotated, Any, NoReturn, Union, get_args, get_origin, get_type_hints

from keras_iplt.support import kinds
from keras_iplt.support.kinds import Kind

__all__ = ["Amount", "Count", "Number", "Part", "matching", "parse", "read", "read_json"]

# Exact as a float, too.
Count = Annotated[int, Kind("a whole number in [0, 1e+15]", lambda n: 0 <= n <= 10**15)]
Number = Annotated[float, Kind("a number that is not NaN", lambda x: not math.isnan(x))]
Amount = Annotated[float, Kind("a number that is not negative", lambda x: x >= 0)]
Part = Annotated[float, Kind("a number in [0, 1]", lambda x: 0 <= x <= 1)]


def matching(pattern: str) -> Kind:
    """Texts that a regular expression describes as a whole."""
    return Kind(f"a text like {pattern}", lambda text: re.fullmatch(pattern, text))


def read(kind: Any, value: Any, name: str = "") -> Any:
    """What JSON says, as an object of a type; or a `ValueError` that names the place.

    Args:
        kind: a dataclass, which there may be no more of; `list`, `dict` and `tuple` of types; one
            of these or None, which what is missing is, too; or what `kinds` reads, a `float` (NaN
            too) as Python's.
        value: as `json.loads` returns it.
        name: what errors call it.
    """
    of, parts = get_origin(kind) or kind, get_args(kind)
    if of in (Union, types.UnionType):
        (other,) = (part for part in parts if part is not types.NoneType)
        return None if value is None else read(other, value, name)
    if dataclasses.is_dataclass(of):
        return _record(of, read(dict, value, name), name)
    if of is list and parts:
        return [
            read(parts[0], one, f"{name}[{i}]") for i, one in enumerate(read(list, value, name))
        ]
    if of is dict and parts:
        named = read(dict, value, name)
        return {key: read(parts[1], one, f"{name}[{key!r}]") for key, one in named.items()}
    if of is tuple and parts:
        several = read(list, value, name)
        if len(several) != len(parts):
            _refuse(name, f"{len(parts)} values", value)
        pairs = enumerate(zip(parts, several, strict=True))
        return tuple(read(part, one, f"{name}[{i}]") for i, (part, one) in pairs)
    found = kinds.read(kind, value)
    if isinstance(found, kinds.Unfit):
        _refuse(name, _WORDS.get(kind) or kinds.words_of(kind), value)
    return _number(found, name) if float in (kind, *parts) else found


_WORDS = {list: "a list", dict: "names with values"}  # as JSON has them


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
    """What a file holds, as an object of a type; or a `ValueError`, or an `OSError`.

    A pipe is not waited for."""
    if not path.is_file():
        raise ValueError("it is a directory, a device or a pipe")
    return parse(kind, path.read_text(encoding="utf-8"))
