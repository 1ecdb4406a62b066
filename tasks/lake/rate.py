"""Rates of requests: what a provider permits, and what is found out of what it sustains."""

from dataclasses import dataclass

from .errors import UsageError

_SLOTS = 100


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``limit`` requests in any ``seconds``."""

    limit: int
    seconds: float

    def __post_init__(self) -> None:
        if self.limit < 1 or self.seconds <= 0:
            raise UsageError(
                "a quota is a number of requests in a time", expected="both above 0", found=(self.limit, self.seconds)
            )

    @property
    def hold(self) -> float:
        """Seconds within which a token must be spent, and the grain in which tokens come back."""
        return self.seconds / _SLOTS

    @property
    def name(self) -> str:
        """Key of the window in the lake's document."""
        return f"{self.limit}/{self.seconds:g}s"


@dataclass(frozen=True, slots=True)
class Adaptive:
    """A pace that is found out: requests a second, halved when the provider refuses, grown slowly while it serves.

    It starts at ``start``, stays between ``lowest`` and ``highest``, and grows by ``growth`` of the highest a second.
    """

    start: float
    highest: float
    lowest: float = 0.1
    growth: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.start <= self.highest:
            raise UsageError(
                "an adaptive rate starts between its bounds",
                expected=f"{self.lowest:g} to {self.highest:g}",
                found=self.start,
            )
