"""What commands say: answers on standard output, all else on standard error."""

import contextlib
import io
import json
import re
import sys
from typing import Any, NamedTuple

__all__ = ["Answer", "plain", "print_answer", "say", "work_on_stderr"]


# What progress bars send to go back to the beginning of the line, and to change colours.
_BACK = re.compile(r"[\b\r]+")
_CONTROLS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x09\x0b-\x1f]")


class Answer(NamedTuple):
    """What a command found out: as text for people, and as dicts and lists for programs."""

    text: str
    content: Any


def say(message):
    """A line on standard error."""
    print(f"keras-iplt: {message}", file=sys.stderr, flush=True)


def work_on_stderr():
    """Within it, what is printed goes to standard error: bars for a terminal, else plain lines."""
    return contextlib.redirect_stdout(sys.stderr if sys.stderr.isatty() else _Plain(sys.stderr))


class _Plain(io.TextIOBase):
    """A stream without control characters: a line for what would have been overwritten."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text):
        self._stream.write(_CONTROLS.sub("", _BACK.sub("\n", text)))
        return len(text)

    def flush(self):
        self._stream.flush()


def print_answer(answer, as_json):
    """Prints an `Answer`; whether all of it could be written shows here, not at exit."""
    if answer is not None and (as_json or answer.text):
        print(json.dumps(plain(answer.content), indent=2) if as_json else answer.text, flush=True)


def plain(content):
    """The same for JSON: NaN and infinity, which JSON lacks, are None."""
    if isinstance(content, dict):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [plain(value) for value in content]
    if hasattr(content, "tolist"):
        return plain(content.tolist())
    if isinstance(content, float) and not abs(content) < float("inf"):
        return None
    return content
