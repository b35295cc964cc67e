"""What the command line itself has to refuse; the library has errors of its own."""

__all__ = ["CommandError"]


class CommandError(Exception):
    """A command cannot be carried out, and the message says why and what to do."""
