"""What commands say: answers on standard output, all else on standard error."""

import contextlib
import io
import json
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, TextIO

from keras_iplt_cli.lines import escaped

__all__ = ["Answer", "plain", "print_answer", "say", "talking"]

# A progress bar of Keras, the one thing that may move the cursor: back, a count, colours.
_BAR = re.compile(r"[\b]*\r\x1b\[1m *\d+/\d+\x1b\[0m (?:[^\x00-\x1f\x7f-\x9f]|\x1b\[\d+m)*\n?")
_BACK = re.compile(r"[\b\r]+")
_COLOURS = re.compile(r"\x1b\[\d+m")


class Answer(NamedTuple):
    """What a command found out: as text for people, and as dicts and lists for programs."""

    text: str
    content: Any


def say(message: str) -> None:
    """A line on standard error."""
    print(f"keras-iplt: {escaped(message, keep='')}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def talking(answers: bool, bars: bool) -> Iterator[None]:
    """Within it, what is printed reaches the terminal as text, whatever is in it.

    Args:
        answers: what goes to standard output is an answer, and stays there; otherwise it goes to
            standard error.
        bars: standard error gets progress bars that are not Keras's, which a terminal is left to.
    """
    err: Any = sys.stderr
    if not (bars and err.isatty()):
        err = _Escaping(err, bars)
    out: Any = _Escaping(sys.stdout, bars) if answers else err
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


class _Escaping(io.TextIOBase):
    """A stream to which control characters go spelled out, and bars as lines unless to a terminal.

    Args:
        stream: where it goes.
        bars: it may be given progress bars that are not Keras's.
    """

    def __init__(self, stream: TextIO, bars: bool) -> None:
        self._stream, self._bars = stream, bars

    def write(self, text: str) -> int:
        count = len(text)
        if _BAR.fullmatch(text):
            if not self._stream.isatty():
                text = _COLOURS.sub("", _BACK.sub("\n", text))
        else:
            text = escaped(_BACK.sub("\n", text) if self._bars else text)
        self._stream.write(text)
        return count

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()


def print_answer(answer: Answer | None, as_json: bool) -> None:
    """Prints an `Answer`; whether all of it could be written shows here, not at exit."""
    if answer is None or not (as_json or answer.text):
        return
    text = json.dumps(plain(answer.content), indent=2) if as_json else escaped(answer.text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def plain(content: Any) -> Any:
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
