"""Results that are tables: as text where they are printed, as HTML where a notebook shows them."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence

from keras_iplt.support.text import printable

__all__ = ["Table", "Tables", "aligned", "mebibytes", "percent", "thousands"]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text, the first of which is the head; `left` columns are flushed to the left."""

    rows: Sequence[Sequence[str]]
    left: int

    def to_html(self) -> str:
        """The table for a page. Names in it are text, whatever they are."""
        head, *body = [
            "".join(
                f'<{tag} style="text-align: {"left" if i < self.left else "right"}">'
                f"{html.escape(printable(cell))}</{tag}>"
                for i, cell in enumerate(row)
            )
            for row, tag in zip(self.rows, ["th", *["td"] * len(self.rows)], strict=False)
        ]
        rows = "".join(f"<tr>{row}</tr>" for row in body)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


class Tables:
    """Base of results that are shown as lines and tables."""

    def _blocks(self) -> Sequence[str | Table]:
        """What there is to show, from top to bottom."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join(
            block if isinstance(block, str) else aligned(block.rows, block.left)
            for block in self._blocks()
        )

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return "\n".join(
            f"<p>{html.escape(printable(block))}</p>" if isinstance(block, str) else block.to_html()
            for block in self._blocks()
            if block
        )


def aligned(rows: Sequence[Sequence[str]], left: int) -> str:
    """Rows of text as a table, the first `left` columns to the left and the others to the right."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if i < left else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


# -- numbers in them -------------------------------------------------------------------------------


def thousands(count: int | None) -> str:
    """12345 -> "12,345", None -> "unknown"."""
    return "unknown" if count is None else f"{count:,}"


def percent(share: float | None) -> str:
    """0.125 -> "12.5%", None -> "unknown"."""
    return "unknown" if share is None else f"{share:.1%}"


def mebibytes(size: float) -> str:
    """Bytes in MiB, which is what papers print as "MB" of a weight file."""
    return f"{size / 2**20:.2f}"
