"""A model from a .keras file that may come from anywhere."""

import os
import pathlib
import tempfile
import warnings
import zipfile

import keras

from keras_iplt.errors import ModelError
from keras_iplt.support.text import reason_of
from keras_iplt_cli.loading.archive import CONFIG, WEIGHTS, unpack
from keras_iplt_cli.loading.config import check_config, read_config
from keras_iplt_cli.loading.hdf5 import check_weights
from keras_iplt_cli.loading.sizes import check_sizes

__all__ = ["load_model"]


def load_model(
    path: str | os.PathLike[str], unsafe: bool = False, compile: bool = True
) -> keras.Model:
    """Loads a model from a .keras file, and runs no code from it.

    The file is looked through before Keras sees it: that it is whole, that it unpacks to a size
    in proportion and to nowhere else, that its config names nothing but what Keras has or the user
    imported, that its weights are numbers in this very file, and as many as its layers ask for.

    Args:
        path: a .keras file.
        unsafe: also run the Python code of Lambda layers and the like.
        compile: compile the model as it was, if it was.

    Returns:
        A `keras.Model`.
    """
    path = pathlib.Path(path)
    with tempfile.TemporaryDirectory(prefix="keras-iplt-") as folder:
        files = pathlib.Path(folder, "files")
        allowance = unpack(path, files)
        config = read_config(path, (files / CONFIG).read_bytes())
        if not compile:
            config.pop("compile_config", None)
        if not unsafe:
            check_config(path, config)
        stored = check_weights(path, files / WEIGHTS, allowance)
        check_sizes(path, config, stored, unsafe)
        copy = _packed(files, pathlib.Path(folder, "model.keras"))
        model = _loaded(path, copy, unsafe, compile)
    if not isinstance(model, keras.Model):
        raise ModelError(f"{path}: expected a model, received: a {type(model).__name__}")
    return model


def _packed(files: pathlib.Path, copy: pathlib.Path) -> pathlib.Path:
    """What was checked, and nothing else, as Keras reads it."""
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(p for p in files.rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(files).as_posix())
            file.unlink()
    return copy


def _loaded(path: pathlib.Path, copy: pathlib.Path, unsafe: bool, compile: bool) -> keras.Model:
    try:
        with warnings.catch_warnings():
            # The optimizer's own state, which nothing here needs, may have another shape.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            return keras.saving.load_model(copy, compile=compile, safe_mode=not unsafe)
    except RecursionError:
        raise ModelError(f"{path}: its layers are nested too deeply") from None
    except MemoryError as error:
        raise ModelError(f"{path}: it needs more memory than there is") from error
    except Exception as error:  # whatever a layer's own code raises
        raise ModelError(
            f"{path}: Keras {keras.__version__} cannot build this model: {reason_of(error)}"
        ) from error
