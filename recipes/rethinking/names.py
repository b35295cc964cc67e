"""Pruned networks from scratch: what networks and methods are called."""

import argparse
import re

from ..common.command import NETWORKS

__all__ = ["METHODS", "method", "network", "takes", "zoo_name"]

METHODS = ("norms", "sfp", "slimming", "thinet", "channel", "sss", "weights")


def network(text: str) -> str:
    """A network of the zoo, or a ResNet or DenseNet of some depth."""
    if zoo_name(text)[0] not in NETWORKS:
        raise argparse.ArgumentTypeError(
            f"expected resnet<depth>, densenet<depth> or one of {', '.join(NETWORKS)}, received: "
            f"{text!r}"
        )
    return text


def zoo_name(network: str) -> tuple[str, int | None]:
    """Its name in the zoo, and its depth where the name that it goes by here says so."""
    found = re.fullmatch(r"(resnet|densenet)(\d+)", network)
    if found is None or network in ("resnet50", "densenet121"):  # those are ImageNet's
        return network, None
    return {"resnet": "cifar_resnet", "densenet": "densenet40"}[found[1]], int(found[2])


def method(text: str) -> str:
    """One of those that are here."""
    if text not in METHODS:
        raise argparse.ArgumentTypeError(f"expected {', '.join(METHODS)}, received: {text}")
    return text


def takes(method: str, network: str) -> bool:
    """Whether a method has anything to prune in a network: whole blocks are residual ones."""
    return method != "sss" or network.startswith("resnet")
