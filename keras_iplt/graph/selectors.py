"""Which layers somebody means: objects, names, patterns, kinds, or what a function says.

>>> matches("*/ffn/*", keras.layers.Dense(4, name="up"), "block_1/ffn/up")
True
>>> matches(keras.layers.Conv2D, keras.layers.Dense(4), "dense")
False
"""

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeAlias

import keras

from keras_iplt.errors import OptionError
from keras_iplt.support.arguments import Kind, check_share

__all__ = [
    "Layers",
    "Selector",
    "as_dict",
    "as_list",
    "described",
    "is_name",
    "matches",
    "name_of",
    "near",
]

# A layer, its name or path, a pattern of these ("conv2*"), a class, or a function of a layer that
# says whether it is meant.
Selector: TypeAlias = keras.Layer | str | type | Callable[[keras.Layer], bool]
_EXPECTED = "layers, names or patterns of names, classes of layers, or functions of a layer"
Layers: TypeAlias = Annotated[Selector | Iterable[Selector], Kind(_EXPECTED)]  # one or several


def matches(key: Selector, layer: Any, path: str) -> bool:
    """Whether a selector means the layer (or other operation) at a path of a model."""
    if isinstance(key, str):
        names = (path, layer.name)
        return key in names or (
            not is_name(key) and any(fnmatch.fnmatchcase(name, key) for name in names)
        )
    if isinstance(key, keras.Layer):
        return layer is key
    if isinstance(key, type):
        return isinstance(layer, key)
    if not isinstance(layer, keras.Layer):
        return False
    try:
        return bool(key(layer))
    except Exception as error:  # whatever a function of the user does
        raise OptionError(
            f"expected a function that says of every layer whether it is meant; {name_of(key)} "
            f"raised {type(error).__name__} for {path!r} ({type(layer).__name__}): {error}"
        ) from error


def is_name(key: Selector) -> bool:
    """Whether it stands for one layer, and what is in it: the layer itself, or its name."""
    return isinstance(key, keras.Layer) or (isinstance(key, str) and not re.search(r"[*?[]", key))


def name_of(key: Selector) -> str:
    """A layer's name, or the name itself; that of a class or function."""
    return key.name if isinstance(key, keras.Layer) else getattr(key, "__name__", str(key))


def described(key: Selector) -> str:
    """A selector as an error speaks of a layer that is not there."""
    if isinstance(key, keras.Layer):
        return f"{key.name!r} that is this very object"
    if isinstance(key, type):
        return f"of class {key.__name__!r}"
    if isinstance(key, str):
        return repr(key) if is_name(key) else f"that matches {key!r}"
    return f"for which {name_of(key)!r} is true"


def near(key: Selector, names: Iterable[str]) -> list[str]:
    """Up to three of some names that are like what a selector says."""
    names = sorted(names)
    pieces = [piece for piece in re.split(r"[*?\[\]]+", name_of(key)) if piece]
    if not is_name(key):  # of paths, parts are like parts
        pieces += [part for piece in pieces for part in piece.split("/") if part]
        names = sorted({part for name in names for part in (name, *name.split("/"))})
    close = [name for piece in pieces for name in difflib.get_close_matches(piece, names, 3)]
    return list(dict.fromkeys(close))[:3] or names[:3]


def as_list(layers: Layers, name: str = "ignore") -> list[Selector]:
    """One selector, or several, as a list.

    Args:
        layers: what was given.
        name: that of the argument.
    """
    several = [layers] if _is_selector(layers) else layers
    if not isinstance(several, Iterable):
        raise OptionError(f"{name}: expected {_EXPECTED}, received: {layers!r}")
    several = list(several)
    for key in several:
        if not _is_selector(key):
            raise OptionError(f"{name}: expected {_EXPECTED}, received: {key!r}")
    if isinstance(layers, Mapping):  # of numbers that would be overlooked
        raise OptionError(f"{name}: expected {_EXPECTED}, received: {layers!r}")
    return several


def as_dict(per_layer: Mapping[Selector, float] | None) -> dict[Selector, float]:
    """Shares by selector."""
    if per_layer is None:
        return {}
    if not isinstance(per_layer, Mapping):
        raise OptionError(f"per_layer: expected {{layer or name: ratio}}, received: {per_layer!r}")
    for key, share in per_layer.items():
        if not _is_selector(key):
            raise OptionError(f"per_layer: expected {_EXPECTED}, received: {key!r}")
        check_share(f"per_layer of {name_of(key)!r}", share)
    return dict(per_layer)


def _is_selector(key: Any) -> bool:
    if isinstance(key, type):
        return issubclass(key, keras.Operation)
    return isinstance(key, str) or callable(key)  # as layers are, too
