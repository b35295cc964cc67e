"""How sparse each layer should be: all that is wanted of tables and figures, on one page."""

import argparse
from typing import Any

from ..common.grid import Grid
from ..common.page import Page
from .detectors import figure_8
from .figures import figure_7, pictures
from .runs import check_phases, weights_of
from .tables import ERRORS, tables_1_2, tables_3_4

__all__ = ["reproduce"]


def reproduce(options: argparse.Namespace) -> dict[str, Any]:
    """Runs what is wanted, and writes the page."""
    if options.model is not None:
        options.networks = options.probe_networks = options.typical = [options.model.stem]
    check_phases(options)
    grid = Grid(options)
    page = Page("Structure characteristic-aware pruning", grid.study, options.command)
    page.text(ERRORS.remarks["all"])
    new = [name for name in options.networks if weights_of(options, name) is None]
    if new and options.model is None:
        page.text(
            f"**Accuracies mean nothing here: untrained are {', '.join(new)}.** For the paper's it "
            "takes ImageNet and its weights. This run shows that all of it works."
        )
    for network in options.networks:
        pictures(options, page, network, *tables_3_4(options, grid, page, network))
    if options.probes:
        for network in options.probe_networks:
            tables_1_2(options, grid, page, network)
    if 7 in options.figures:
        figure_7(options, grid, page)
    if 8 in options.figures and options.model is None:
        figure_8(options, grid, page)
    return page.write()
