"""Tables as Markdown has them, on standard output."""


def table(head, rows, shown=str):
    """Prints a table: names of columns, rows of cells, and what makes text of a cell."""
    for row in (head, ["---"] * len(head), *(map(shown, row) for row in rows)):
        print("| " + " | ".join(row) + " |")
