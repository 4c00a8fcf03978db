"""Checkpoints of a training: written whole or not at all."""

from __future__ import annotations

import pickle  # nosec B403: for the name of its error only
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core import files
from gpu.training.errors import FineTuningError
from gpu.training.trainable import Trainable


@dataclass(slots=True)
class Progressed:
    """How far a training is. ``best``: the parameters of the best epoch. ``history``: one row an epoch."""

    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    best_epoch: int = -1
    unreadable: int = 0


def save_checkpoint(path: Path, trainable: Trainable, optimizer: Any, done: Progressed) -> None:
    """Write the trained weights, the optimizer and the progress. Raises FineTuningError; the one before then stays."""
    import torch

    content = {"weights": trainable.state(), "optimizer": optimizer.state_dict(), "done": asdict(done)}
    try:
        with files.replacing(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch words a full disk as RuntimeError
        raise FineTuningError(
            f"The checkpoint {path} cannot be written: {_reason(error)}. The one before is whole: free some space and "
            "give the same command again."
        ) from error


def load_checkpoint(path: Path, trainable: Trainable, optimizer: Any) -> Progressed | None:
    """Restore a checkpoint and return its progress, or None if there is none. Raises FineTuningError."""
    import torch

    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        done = Progressed(**content["done"])
        optimizer.load_state_dict(content["optimizer"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise FineTuningError(f"The checkpoint {path} is damaged. Delete its folder to begin again.") from error
    trainable.restore(content["weights"])
    return done


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
