"""Claims of papers, judged: a difference, how much of it is noise, and what that says."""

from typing import NamedTuple

__all__ = ["BETTER", "COMPARED", "NOISE", "NOT_WORSE", "Difference", "holds"]


NOISE = "Noise is twice the standard error of the difference."


def holds(claim: bool) -> str:
    """Whether a claim holds, in words."""
    return "holds" if claim else "does not hold"


# What is said of a difference that is below its noise, within it, and above.
NOT_WORSE = (holds(False), holds(True), holds(True))
BETTER = (holds(False), "not told apart", holds(True))
COMPARED = ("worse", "within the noise", "better")


class Difference(NamedTuple):
    """How much more one figure is than another, and the noise of that.

    >>> Difference(0.3, 0.1).judged(BETTER)
    '+0.30 points, noise 0.10: holds.'
    """

    points: float
    noise: float | None  # None where one seed does not tell

    @property
    def certainty(self) -> str:
        """What is known of the noise, in words."""
        if self.noise is None:
            return "one seed does not tell the noise"
        return f"noise {self.noise:.2f}"

    def verdict(self, verdicts: tuple[str, str, str]) -> str:
        """The one of three verdicts that the difference amounts to."""
        if self.noise is None:
            return "not told by one seed"
        below, within, above = verdicts
        if abs(self.points) <= self.noise:
            return within
        return above if self.points > 0 else below

    def judged(self, verdicts: tuple[str, str, str]) -> str:
        """The difference, its noise and the verdict, as a sentence."""
        if self.noise is None:
            return f"{self.points:+.2f} points; {self.certainty}."
        return f"{self.points:+.2f} points, {self.certainty}: {self.verdict(verdicts)}."
