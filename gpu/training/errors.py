"""The error of a training that cannot be done."""

from __future__ import annotations


class FineTuningError(Exception):
    """An encoder cannot be trained. The message says why and what to do. The old encoder is unchanged."""
