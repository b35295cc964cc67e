"""Budgets: at most so much is left of a model, in place of a share of it that goes.

A budget is something that is measured and an amount of it: `of="params", at_most=20_000`. What
people ask for most has a name that means both, `params=20_000`; and amounts are said as people say
them, "20k" or "5 ms".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from keras_iplt.errors import OptionError
from keras_iplt.planning.measures import FILTERS, is_registered, name_of_measure
from keras_iplt.support.arguments import is_real

__all__ = ["BUDGETS", "HALF", "Unsaid", "amount_of", "check_one", "shown", "spelled_out"]

_COUNTS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}
_BYTES = {
    **{"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30},
}
_SECONDS = {"s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}

# What is measured -> its units, and an amount of it as people say it.
BUDGETS: dict[str, tuple[dict[str, float], str]] = {
    "params": (_COUNTS, "20_000 or '20k'"),
    "macs": (_COUNTS, "3_000_000 or '3M'"),
    "flops": (_COUNTS, "6_000_000 or '6M'"),
    "size": (_BYTES, "200_000, '200KB' or '200KB int8'"),
    "latency": (_SECONDS, "0.005 or '5ms'"),
}


class Unsaid(float):
    """A share that holds unless another, or a budget, is given."""


HALF: float = Unsaid(0.5)


def spelled_out(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a plan with `of` and `at_most` in place of a budget by its own name."""
    others = {name: value for name, value in options.items() if name not in BUDGETS}
    named = {name: options[name] for name in BUDGETS if options.get(name) is not None}
    if not named:
        return others
    asked = named if others.get("at_most") is None else {**named, "at_most": others["at_most"]}
    if len(asked) > 1:
        received = ", ".join(f"{name}={amount!r}" for name, amount in asked.items())
        raise OptionError(f"expected one budget, received: {received}")
    ((name, amount),) = named.items()
    text, _, variant = amount.rpartition(" ") if isinstance(amount, str) else ("", "", "")
    measure = name
    if text and is_registered(f"{name}:{variant}"):  # "200KB int8" is "200KB" of "size:int8"
        measure, amount = f"{name}:{variant}", text
    of = others.get("of", FILTERS)
    if isinstance(of, str) and of == FILTERS:
        of = measure
    elif name_of_measure(of) != measure:
        raise OptionError(
            f"of: expected none beside {name}={amount!r}, or an object that measures {measure!r}; "
            f"received: {of!r}"
        )
    return {**others, "of": of, "at_most": amount}


def amount_of(of: Any, amount: Any) -> float:
    """An amount of what is measured, as a number."""
    name = name_of_measure(of).partition(":")[0]
    units, example = BUDGETS.get(name, ({}, "a number"))
    number = amount
    if isinstance(amount, str):
        found = re.fullmatch(r"\s*(\d[\d_,]*\.?\d*(?:e[+-]?\d+)?)\s*([a-zµ]*)\s*", amount.lower())
        unit = None if found is None else units.get(found[2])
        if found is not None and unit is not None:
            number = float(re.sub("[_,]", "", found[1])) * unit
    if not is_real(number) or not 0 < number < math.inf:
        raise OptionError(
            f"{name}: expected how much may be left at most, such as {example}, received: "
            f"{amount!r}"
        )
    return number if isinstance(number, int) else float(number)


def check_one(name: str, share: Any, at_most: Any) -> None:
    """Refuses a share beside a budget."""
    if at_most is not None and not isinstance(share, Unsaid):
        budgets = ", ".join(BUDGETS)
        raise OptionError(
            f"{name}: expected none beside a budget ({budgets} or at_most), which says how much "
            f"goes, received: {share!r}"
        )


def shown(of: Any, amount: float) -> str:
    """An amount as a text."""
    unit = {"size": " bytes", "latency": " s"}.get(name_of_measure(of).partition(":")[0], "")
    return f"{amount:,.10g}{unit}"
