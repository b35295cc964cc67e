"""What it takes to repeat the run: the command, and versions."""

import shlex
from typing import Any
from xml.etree.ElementTree import Element

from keras_iplt.errors import OptionError
from keras_iplt.reporting.page import add, add_row, table
from keras_iplt.support.versions import versions

__all__ = ["add_surroundings", "checked_command"]


def checked_command(command: Any) -> str | None:
    """The command as one line; a list is quoted as a shell wants it."""
    if command is None or isinstance(command, str):
        return command
    if isinstance(command, (list, tuple)) and all(isinstance(part, str) for part in command):
        return shlex.join(command)
    raise OptionError(f"command: expected a string or a list of strings, received: {command!r}")


def add_surroundings(main: Element, command: str | None) -> None:
    section = add(main, "section")
    add(section, "h2", "To repeat it")
    if command:
        add(section, "pre", command)
    body = table(section, "Versions", ["what", "version"], left=2)
    for name, version in versions().items():
        add_row(body, name, [version], left=1)
