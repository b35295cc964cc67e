"""Docstrings as they are written here, made into what mkdocstrings expects.

Examples stand without indentation, as doctests: they become blocks of code.
"""

import inspect
import re

import griffe


def fenced(text):
    """The docstring with its doctests in fences.

    >>> print(fenced("One.\\n\\nExample:\\n\\n>>> 1 + 1\\n2"))
    One.
    <BLANKLINE>
    **Example:**
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    blocks = re.split(r"\n\n+", inspect.cleandoc(text))
    for index, block in enumerate(blocks):
        if block.startswith(">>>"):
            blocks[index] = "```pycon\n" + block.replace("<BLANKLINE>", "") + "\n```"
        elif block == "Example:":
            blocks[index] = "**Example:**"
    return "\n\n".join(blocks)


class Doctests(griffe.Extension):
    """Rewrites each docstring as it is read."""

    def on_instance(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
