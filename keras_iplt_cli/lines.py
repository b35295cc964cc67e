"""What of a text reaches a terminal: names from files as text, and no talk of TensorFlow's.

Run as a program, it passes its standard input on to standard error in this way, line by line.
"""

import re
import sys

__all__ = ["escaped", "is_noise"]

# What TensorFlow's libraries tell of themselves, in any of their three formats: information and
# warnings. Errors and what has no such beginning pass, but for what the converter prints while it
# quantizes, and two errors that are none: there is no GPU; releases of 2024 register plugins twice.
_NOISE = re.compile(
    r"[IW]\d{4} \d\d:\d\d:\d+\.\d+ +\d+ \S+:\d+\] "
    r"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW] "
    r"|(?:INFO|WARNING): "
    r"|fully_quantize: \d"
    r"|.*failed call to cuInit: .*(?:CUDA_ERROR_NO_DEVICE|UNKNOWN ERROR \(303\))"
    r"|.*Unable to register cu\w+ factory"
)


def escaped(text: str, keep: str = "\n") -> str:
    r"""A text in which whatever is not shown as itself is spelled out.

    Terminals obey control characters, and some characters turn the direction of writing: a name
    that holds any could make a line say what nobody wrote.

    Args:
        text: what is to be shown.
        keep: characters that stay as they are.

    >>> escaped("conv\x1b[2K\rok"), escaped("größe"), escaped("a\u202eb")
    ('conv\\x1b[2K\\rok', 'größe', 'a\\u202eb')
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def is_noise(line: str) -> bool:
    """Whether a line is what TensorFlow's libraries say when nothing is wrong."""
    return _NOISE.match(line) is not None


def _pass_on() -> None:
    for line in sys.stdin.buffer:
        text = line.decode(errors="replace")
        if not is_noise(text):
            sys.stderr.buffer.write(escaped(text).encode())
            sys.stderr.buffer.flush()


if __name__ == "__main__":
    _pass_on()
