"""What is described by the arguments that it was made with."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from keras_iplt.support.arguments import checked

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Configurable"]


class Configurable:
    """Base of what keeps the arguments of its constructor, each by its own name.

    >>> class Share(Configurable):
    ...     def __init__(self, of, most=0.5):
    ...         self.of, self.most = of, most
    >>> Share("filters"), Share.from_config({"of": "params"}).most
    (Share(of='filters', most=0.5), 0.5)
    """

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @classmethod
    @checked
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The same thing again, of these arguments."""
        return cls(**config)

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({settings})"
