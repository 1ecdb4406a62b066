"""Mean, spread, range and count of many values in one pass, without holding them."""

from collections.abc import Iterator

import numpy as np


class Moments:
    """Statistics by channel. Missing values (NaN) count for nothing.

    Blocks are joined by the formula of Chan, Golub and LeVeque (1979), so that a large mean does not eat the spread as
    it would with a sum of squares. All in float64.
    """

    def __init__(self, channels: int) -> None:
        self.count = np.zeros(channels, "int64")
        self.mean = np.zeros(channels)
        self._squares = np.zeros(channels)
        self.minimum = np.full(channels, np.inf)
        self.maximum = np.full(channels, -np.inf)

    def add(self, values: np.ndarray) -> None:
        """Take a block (sample, channel, ...) into account."""
        for channel in range(values.shape[1]):
            part = values[:, channel].astype("float64").ravel()
            part = part[~np.isnan(part)]
            if part.size:
                self._join(channel, part)

    def _join(self, channel: int, part: np.ndarray) -> None:
        mean = part.mean()
        before, count = self.count[channel], part.size
        total = before + count
        off = mean - self.mean[channel]
        self._squares[channel] += np.square(part - mean).sum() + off * off * before * count / total
        self.mean[channel] += off * count / total
        self.count[channel] = total
        self.minimum[channel] = min(self.minimum[channel], part.min())
        self.maximum[channel] = max(self.maximum[channel], part.max())

    def arrays(self) -> Iterator[tuple[str, np.ndarray, str]]:
        """Name, values by channel and meaning of each statistic; NaN where a channel has no value at all."""
        empty = self.count == 0
        known = {
            "mean": (self.mean, "mean of the values that are not missing"),
            "standard_deviation": (
                np.sqrt(self._squares / np.maximum(self.count, 1)),
                "standard deviation of the population of values",
            ),
            "minimum": (self.minimum, "smallest value"),
            "maximum": (self.maximum, "largest value"),
        }
        for name, (values, words) in known.items():
            yield name, np.where(empty, np.nan, values), words
        yield "count", self.count, "number of values that are not missing"
