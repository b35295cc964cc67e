"""Figures as the papers print them, which lie in `recipes/published/`, a file for each recipe.

A file names its paper, and for each table where it is printed, what its rows are of, which figures
they have, what has to be said beside them, and the rows: first what it is of, then the figures.
"""

import dataclasses
import importlib.resources
import json
from typing import Any

__all__ = ["Table", "published"]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        source: which table or figure of which paper it is.
        figures: the names of the figures that a row has.
        rows: what a row is of -> its figures by their names.
        remarks: what has to be said beside "all" of it, or beside what it has of a network.
    """

    source: str
    figures: list[str]
    rows: dict[tuple[Any, ...], dict[str, Any]]
    remarks: dict[str, str]

    def row(self, *of: Any) -> dict[str, Any]:
        """The figures of one row; None for each of what the paper does not have."""
        return self.rows.get(of) or dict.fromkeys(self.figures)


def published(recipe: str) -> dict[str, Table]:
    """The tables that a recipe compares with, by their names.

    >>> published("iplt")["table 1"].row("IPLT", 60)
    {'parameters gone, %': 84.72, 'accuracy, %': 99.35}
    """
    folder = importlib.resources.files(__package__.rpartition(".")[0]) / "published"
    file = json.loads((folder / f"{recipe}.json").read_text(encoding="utf-8"))
    tables = {}
    for name, table in file["tables"].items():
        figures, keys = table["figures"], len(table["of"])
        rows = {
            tuple(row[:keys]): dict(zip(figures, row[keys:], strict=True)) for row in table["rows"]
        }
        source = f"{table['printed']} ({file['paper']})"
        tables[name] = Table(source, figures, rows, table.get("remarks", {}))
    return tables
