"""Train an encoder: epochs, early stopping, checkpoints, and going on after a stop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gpu.encoders.torch import is_out_of_memory
from gpu.training.checkpoints import Progressed, load_checkpoint, save_checkpoint
from gpu.training.errors import FineTuningError
from gpu.training.gradients import backward
from gpu.training.images import Loader
from gpu.training.loss import contrastive_loss
from gpu.training.trainable import Trainable

logger = logging.getLogger(__name__)

# Adam's step for weights of a width, by the rule that it falls with the width: Yang et al., "Tensor programs V", 2022.
# 1.7e-4 for a ViT-S (384), 8e-5 for a ViT-B (768).
RATE_TIMES_WIDTH = 0.064
WARM_UP, WEIGHT_DECAY, MAX_GRADIENT = 0.1, 0.01, 1.0
PATIENCE = 3  # epochs without a better recall, or a quarter of all if that is more
CHECKPOINT_SECONDS = 60.0

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one step, a seed for the variation of each, their labels (n,), and which are told apart (n, n)."""

    paths: Sequence[Path]
    seeds: Sequence[int]
    labels: npt.NDArray[np.int64]
    apart: npt.NDArray[np.bool_]


class Plan(Protocol):
    """What to train on. The same epoch always gives the same batches, and all epochs have equally many."""

    def epoch(self, number: int) -> list[Batch]: ...

    def score(self, embed: Callable[[Sequence[Path]], npt.NDArray[np.float32]]) -> dict[str, float]:
        """Return recalls on products that are not trained on. The first figure counts, then the next."""
        ...


def train(
    trainable: Trainable, plan: Plan, epochs: int, checkpoint: Path, start_score: dict[str, float], progress: Progress
) -> Progressed:
    """Train until all epochs are done or the score no longer rises. Leave the best epoch's weights in the encoder.

    Goes on from the checkpoint, if there is one, and saves one after each epoch, each minute, and if ``progress``
    raises. Calls ``progress(images)`` after each step. On a CPU a training that was stopped gives the same weights as
    one that was not. Raises FineTuningError.
    """
    import torch

    parameters = list(trainable.parameters.values())
    optimizer = torch.optim.AdamW(parameters, lr=RATE_TIMES_WIDTH / trainable.width, weight_decay=WEIGHT_DECAY)
    done = load_checkpoint(checkpoint, trainable, optimizer)
    if done is None:
        done = Progressed()
    steps = len(plan.epoch(0))

    def save() -> None:
        save_checkpoint(checkpoint, trainable, optimizer, done)

    with Loader(trainable.weights.preprocess) as loader:
        while done.epoch < epochs and not _is_over(done, start_score, max(PATIENCE, epochs // 4)):
            batches = plan.epoch(done.epoch)[done.step :]
            saved = time.monotonic()
            for batch, loaded in zip(
                batches, loader.batches([(batch.paths, batch.seeds) for batch in batches]), strict=True
            ):
                for group in optimizer.param_groups:
                    group["lr"] = _rate(done.epoch * steps + done.step, epochs * steps) / trainable.width
                done.unreadable += len(batch.paths) - len(loaded.places)
                labels, apart = batch.labels[loaded.places], batch.apart[np.ix_(loaded.places, loaded.places)]
                loss = _step(trainable, optimizer, loaded.pixels, labels, apart)
                if not math.isfinite(loss):
                    raise FineTuningError(
                        f"The loss is not a number in epoch {done.epoch + 1}, step {done.step + 1}. The weights of "
                        f"{trainable.weights.model_id} or its image size do not fit training. Nothing was changed."
                    )
                done.losses.append(loss)
                done.step += 1
                try:
                    progress(len(batch.paths))
                except BaseException:
                    save()
                    raise
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    save()
                    saved = time.monotonic()
            _end_epoch(trainable, plan, done)
            save()
    assert done.best is not None  # noqa: S101  # nosec B101 # there is at least one epoch
    trainable.restore(done.best)
    return done


def embed(trainable: Trainable, paths: Sequence[Path], progress: Progress = lambda _: None) -> npt.NDArray[np.float32]:
    """Return the unit vectors (n, dim) of images as they are. Rows of images that cannot be read are zero."""
    import torch

    vectors = np.zeros((len(paths), trainable.weights.embedding_dim or 0), np.float32)
    starts = range(0, len(paths), size := max(32, trainable.chunk))
    with Loader(trainable.weights.preprocess) as loader, torch.no_grad():
        for start, loaded in zip(
            starts, loader.batches([(paths[start : start + size], None) for start in starts]), strict=True
        ):
            if len(loaded.places):
                with trainable.precision():
                    found = trainable.module(torch.from_numpy(loaded.pixels).to(trainable.model.device))
                vectors[start + loaded.places] = found.float().cpu().numpy()
            progress(len(paths[start : start + size]))
    return vectors


def _end_epoch(trainable: Trainable, plan: Plan, done: Progressed) -> None:
    score = plan.score(lambda paths: embed(trainable, paths))
    best = done.history[done.best_epoch] if done.best is not None else None
    done.history.append({"loss": round(float(np.mean(done.losses)), 5), **score})
    if best is None or _key(score) > _key({name: best[name] for name in score}):
        done.best, done.best_epoch = trainable.state(), done.epoch
    logger.info("Epoch %d: %s", done.epoch + 1, done.history[-1])
    done.epoch, done.step, done.losses = done.epoch + 1, 0, []


def _is_over(done: Progressed, start_score: dict[str, float], patience: int) -> bool:
    """Return whether the last epochs did not surpass the start and the epochs before."""
    if len(done.history) < patience:
        return False
    scores = [_key(start_score), *(_key({name: row[name] for name in start_score}) for row in done.history)]
    return max(scores[-patience:]) <= max(scores[:-patience])


def _key(score: dict[str, float]) -> tuple[float, ...]:
    return tuple(score.values())


def _rate(step: int, steps: int) -> float:
    """Return the learning rate of a step: a short rise, then a cosine down to a twentieth."""
    rise = max(1.0, WARM_UP * steps)
    if step < rise:
        return RATE_TIMES_WIDTH * (step + 1) / (rise + 1)
    down = (step - rise) / max(1.0, steps - rise)
    return RATE_TIMES_WIDTH * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * down)))


def _step(
    trainable: Trainable, optimizer: Any, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64],
    apart: npt.NDArray[np.bool_],
) -> float:  # fmt: skip
    """Change the weights by one batch, in smaller chunks if the device's memory demands it. Return the loss."""
    import torch

    if len(pixels) < 2:
        return 0.0
    device = trainable.model.device
    on_device = torch.from_numpy(pixels).to(device)
    label, are_apart = torch.from_numpy(labels).to(device), torch.from_numpy(apart).to(device)
    while True:
        optimizer.zero_grad(set_to_none=True)
        try:
            loss = backward(
                trainable.module, on_device, lambda vectors: contrastive_loss(vectors, label, are_apart),
                trainable.chunk, trainable.precision,
            )  # fmt: skip
            break
        except RuntimeError as error:
            if not is_out_of_memory(error) or trainable.chunk <= 2:
                raise
        trainable.chunk //= 2
        logger.warning("The device's memory is full. Training goes on with chunks of %d images.", trainable.chunk)
    norm = torch.nn.utils.clip_grad_norm_(list(trainable.parameters.values()), MAX_GRADIENT)
    if not math.isfinite(loss) or not math.isfinite(float(norm)):
        return math.nan
    optimizer.step()
    return loss
