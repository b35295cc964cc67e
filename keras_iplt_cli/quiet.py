"""Standard error without what TensorFlow tells of itself."""

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

from keras_iplt_cli import lines

__all__ = ["without_noise"]

_PATIENCE = 2  # seconds, if another process still holds standard error


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Within it, loggers give errors only, and so do libraries in C++, which know of no loggers.

    These write to file descriptor 2, which here leads to `lines`. That runs as a process of its
    own: when this one crashes, its last words are the ones that matter, and they still get through.
    What Python writes to `sys.stderr`, its warnings among it, goes straight on.
    """
    # TensorFlow heeds it for some of its lines, among them some that go on over several.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.disable(logging.WARNING)
    sys.stderr.flush()
    with contextlib.ExitStack() as stack:
        stack.callback(logging.disable, logging.NOTSET)
        shown = os.dup(2)
        stack.callback(os.close, shown)
        # In a session of its own, as Ctrl-C is for the work alone.
        reader = subprocess.Popen(
            [sys.executable, "-I", "-S", lines.__file__],
            stdin=subprocess.PIPE, stderr=shown, start_new_session=True,
        )  # fmt: skip
        stack.callback(_wait, reader)
        if _is_standard_error(sys.stderr):
            encoding = sys.stderr.encoding
            ours = stack.enter_context(
                open(shown, "w", 1, encoding, errors="backslashreplace", closefd=False)
            )
            stack.enter_context(contextlib.redirect_stderr(ours))
        assert reader.stdin is not None
        os.dup2(reader.stdin.fileno(), 2)
        reader.stdin.close()
        stack.callback(os.dup2, shown, 2)
        yield


def _wait(reader: subprocess.Popen[bytes]) -> None:
    """Lets it write what it has read, before anything else is written."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        reader.wait(_PATIENCE)


def _is_standard_error(stream: object) -> bool:
    try:
        return stream.fileno() == 2  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):  # a stream that is no file
        return False
