"""Confidence intervals at 95 %: of a share, and of the difference of two shares on the same queries.

Sources: Wilson, "Probable inference, the law of succession, and statistical inference", 1927; Efron, "Bootstrap
methods: another look at the jackknife", 1979.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Interval = tuple[float, float]

Z = 1.959964  # of the normal distribution, two-sided
RESAMPLES = 1000


def wilson(hits: int, count: int) -> Interval:
    """Return the interval of a share of ``hits`` in ``count`` queries. Raises ValueError without a query."""
    if count < 1:
        raise ValueError("an interval needs a query")
    share, spread = hits / count, Z * Z / count
    centre = (share + spread / 2) / (1 + spread)
    width = Z * float(np.sqrt(share * (1 - share) / count + spread / (4 * count))) / (1 + spread)
    return max(0.0, centre - width), min(1.0, centre + width)


def paired_bootstrap(gains: npt.NDArray[np.float64], groups: npt.NDArray[np.int64]) -> Interval:
    """Return the interval of the mean of ``gains`` (n,), one a query.

    Whole groups (n,) are drawn again, because queries for one product are not independent. The same input gives the
    same interval.
    """
    _, group = np.unique(groups, return_inverse=True)
    counts = np.bincount(group).astype(np.float64)
    sums = np.bincount(group, gains)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), RESAMPLES).astype(np.float32)
    low, high = np.quantile((drawn @ sums) / (drawn @ counts), [0.025, 0.975])
    return float(low), float(high)
