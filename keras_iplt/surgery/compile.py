"""Compile settings go along."""

import warnings

__all__ = ["carry_compilation"]


def carry_compilation(old, new):
    """Compiles `new` as `old` was compiled, with a fresh optimizer. What Keras cannot write down
    (a custom loss that is not registered, say) is said in a warning, and `new` stays uncompiled."""
    if not getattr(old, "compiled", False):
        return
    try:
        config = old.get_compile_config()
        if not config:
            raise ValueError("the model does not say how it was compiled")
        new.compile_from_config(config)
    except Exception as error:
        warnings.warn(
            f"the smaller model is not compiled: Keras cannot carry the settings of {old.name!r} "
            f"over ({type(error).__name__}: {error}). Call compile() on it",
            stacklevel=3,
        )
