"""The HDF5 file with the weights: that it holds numbers, and does not lead to other files."""

import pathlib
from collections.abc import Iterator
from typing import Any

import h5py  # type: ignore[import-untyped]

from keras_iplt.errors import ModelError
from keras_iplt_cli.loading.archive import Allowance

__all__ = ["check_weights"]


def check_weights(path: pathlib.Path, file: pathlib.Path, allowance: Allowance) -> int:
    """Refuses an HDF5 file that is damaged, or that reads from outside of itself.

    Args:
        path: what to call it in errors.
        file: where it is.
        allowance: the `Allowance` of the file that it came in.

    Returns:
        How many numbers there are.
    """
    stored = 0
    try:
        with h5py.File(file, "r") as content:
            for name, thing in _things(path, content):
                if isinstance(thing, h5py.Dataset):
                    _check_dataset(path, name, thing)
                    allowance.take(thing.size * thing.dtype.itemsize, f"weight {name!r}")
                    stored += thing.size
    except ModelError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: its weights are a damaged HDF5 file ({error})") from error
    return stored


def _things(path: pathlib.Path, file: Any) -> Iterator[tuple[str, Any]]:
    """`(name, group or dataset)` for all there is, each once, and no link followed."""
    waiting, seen = [("", file)], set[int]()
    while waiting:
        at, group = waiting.pop()
        for key in group:
            name = f"{at}/{key}"
            link = group.get(key, getlink=True)
            if not isinstance(link, h5py.HardLink):
                kind = "another file" if isinstance(link, h5py.ExternalLink) else "another place"
                raise ModelError(f"{path}: weight {name!r} is a link to {kind}; Keras writes none")
            thing = group[key]
            address = h5py.h5o.get_info(thing.id).addr
            if address in seen:
                continue
            seen.add(address)
            yield name, thing
            if isinstance(thing, h5py.Group):
                waiting.append((name, thing))


def _check_dataset(path: pathlib.Path, name: str, dataset: Any) -> None:
    if dataset.external or dataset.is_virtual:
        raise ModelError(f"{path}: weight {name!r} is stored in another file; Keras writes none so")
    # Keras stores numbers of two bytes that HDF5 has no name for, bfloat16, as plain bytes.
    if dataset.dtype.hasobject or dataset.dtype.names or dataset.dtype.kind not in "biufV":
        raise ModelError(f"{path}: weight {name!r} holds {dataset.dtype}, not numbers")
