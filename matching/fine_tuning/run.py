"""Train an encoder: read the data, measure, train, measure again, and write the model folder."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone
from threadpoolctl import threadpool_limits

from core import files
from core.cpu import cpu_cores
from core.progress import ProgressBar
from gpu import heads
from gpu.encoders import selection
from gpu.encoders.weights import Weights
from gpu.training import loop, trainable
from gpu.training.errors import FineTuningError
from gpu.training.model_folder import write_model
from gpu.training.trainable import Trainable, model_bytes
from matching.fine_tuning import batches, data, report
from matching.fine_tuning.data import TrainingData

logger = logging.getLogger(__name__)

DEFAULT_EPOCHS = 10
_RUN, _CHECKPOINT = "run.json", "checkpoint.pt"

Check = Callable[[], None]
Report = dict[str, Any]


def fine_tune(
    start_from: str | None, epochs: int, out: Path | None, bar: ProgressBar, check: Check = lambda: None
) -> Report:
    """Train the encoder ``start_from`` (default: the one in use) and write it to ``out``. Return the report.

    Goes on with a training that was stopped, if ``out`` and the start are the same. ``check`` may raise to stop: the
    checkpoint is saved first. Nothing that answers is changed. Raises FineTuningError.
    """
    if epochs < 1:
        raise FineTuningError("--epochs must be 1 or more.")
    weights = trainable.find_trainable(source_of(start_from))
    out = (out or _free_folder(weights)).absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FineTuningError(f"{out} exists already. Choose another folder with --out, or delete it.")
    work = out.with_name(f"{out.name}.training")
    with ExitStack() as stack:
        found = _begin(work, weights, epochs, stack)
        try:
            # Threads that wait for each other on a busy machine are slower than one, and hold up searches.
            with threadpool_limits(limits=_threads(), user_api="blas"):
                figures = _train(weights, found, epochs, work, bar, check)
            if out.exists():
                out.rmdir()
            model = write_model(figures.pop("trainable"), out, json.dumps(figures, indent=2).encode() + b"\n")
        except FineTuningError:
            if not (work / _CHECKPOINT).exists():
                shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(work, ignore_errors=True)
    return {"model": model, "folder": str(out), **figures}


def _threads() -> int:
    return max(1, cpu_cores() // 2)


def source_of(start_from: str | None) -> str:
    """Return what loads the encoder to start from. A head stands for its first encoder. Raises FineTuningError."""
    if start_from is None:
        return selection.source_in_use()
    head = heads.load(start_from)
    if head is not None:
        if not head.encoders:
            raise FineTuningError(f"{start_from} joins no encoder, so there is nothing to train.")
        start_from = head.encoders[0]
    known = selection.find(start_from)
    return known.source if known is not None else start_from


def _free_folder(weights: Weights) -> Path:
    """Return the first folder of the data folder that is not there yet. A training that was stopped keeps its own."""
    name = weights.model_id.rpartition("/")[2].partition("@")[0]
    number, folder = 1, Path(settings.TRAINED_ROOT) / f"{name}-tuned"
    while folder.exists():
        number += 1
        folder = folder.with_name(f"{name}-tuned-{number}")
    return folder


def _begin(work: Path, weights: Weights, epochs: int, stack: ExitStack) -> TrainingData:
    """Return the data of a training that was stopped, or else read it. Lock the working folder."""
    described = {"start": weights.fingerprint, "epochs": epochs, "seed": batches.SEED}
    try:
        if not (work / _RUN).is_file():
            found = data.read()
            _require_space(work, weights)
            content = json.dumps({**described, "data": found.as_json()}).encode()
            files.write_file(work / _RUN, content)
        if not stack.enter_context(files.locked(work / "lock")):
            raise FineTuningError(f"Another process trains into {work}. Wait for it, or choose another --out.")
        stored = json.loads((work / _RUN).read_bytes())
        if {key: stored[key] for key in described} != described:
            raise FineTuningError(
                f"{work} has a training from another model or with other --epochs. Give the same command as before, "
                "choose another --out, or delete that folder."
            )
        return TrainingData.from_json(stored["data"])
    except OSError as error:
        raise FineTuningError(f"{work} cannot be written: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise FineTuningError(f"{work / _RUN} is damaged. Delete its folder to begin again.") from error


def _require_space(work: Path, weights: Weights) -> None:
    """Require room for the model and for two checkpoints, of the weights, their best state and Adam's two moments."""
    folder = next(parent for parent in work.parents if parent.is_dir())
    free, needed = shutil.disk_usage(folder).free, 9 * model_bytes(weights)
    if free < needed + settings.DISK_RESERVE_BYTES:
        raise FineTuningError(
            f"{folder} has {free / 2**20:,.0f} MiB free. The training needs up to {needed / 2**20:,.0f} MiB, and "
            f"{settings.DISK_RESERVE_BYTES / 2**20:,.0f} MiB stay reserved. Free some space, or choose another --out."
        )


def _train(
    weights: Weights, found: TrainingData, epochs: int, work: Path, bar: ProgressBar, check: Check
) -> dict[str, Any]:
    """Train and measure. Return the report, and the trained encoder under "trainable"."""
    import torch

    started = time.perf_counter()
    torch.set_num_threads(_threads())
    encoder = trainable.load(weights)
    parts = batches.split(found)
    plan = batches.Batches(found, parts)
    ranks, start_score = {}, {}
    with bar(None, "Measuring", "images") as shown:

        def measured(count: int) -> None:
            shown.update(count)
            check()

        start_score = plan.score(lambda paths: loop.embed(encoder, paths, measured))
        ranks["frozen"], ranks["with head"] = _ranks(encoder, found, parts, measured)
    images = sum(len(batch.paths) for batch in plan.epoch(0))
    with bar(images * epochs, "Training", "images") as shown:

        def trained(count: int) -> None:
            shown.update(count)
            check()

        done = loop.train(encoder, plan, epochs, work / _CHECKPOINT, start_score, trained)
    with bar(None, "Measuring", "images") as shown:
        ranks["fine-tuned"], ranks["fine-tuned with head"] = _ranks(encoder, found, parts, measured)
    measured_gain = report.transfer(parts.test, ranks, found.categories)
    figures = {
        "started_from": weights.model_id,
        "created_at": timezone.now().isoformat(timespec="seconds"),
        "seed": batches.SEED,
        "data_hash": found.hash(),
        "views": found.count,
        "training_products": len(parts.training),
        "validation_products": len(set(parts.validation.of_queries.tolist())),
        "held_out_products": measured_gain.pop("products"),
        "queries": measured_gain.pop("queries"),
        "gallery_products": len(set(parts.test.products.tolist())),
        "rejected_pairs": plan.rejected_pairs,
        "left_out": {"contradicting": found.contradicting, "ambiguous": found.ambiguous, "unreadable": done.unreadable},
        "batch_products": plan.size,
        "epochs": done.epoch,
        "best_epoch": done.best_epoch + 1,
        "start": start_score,
        "history": done.history,
        "device": encoder.device,
        "bfloat16": encoder.half,
        "seconds": round(time.perf_counter() - started, 1),
        **measured_gain,
    }
    logger.info("Trained %s on the data %s: %s", weights.model_id, figures["data_hash"], figures["gain"])
    return {**figures, "trainable": encoder}


def _ranks(
    encoder: Trainable, found: TrainingData, parts: batches.Split, progress: Callable[[int], None]
) -> tuple[report.Ranks, report.Ranks]:
    views, products = report.head_views(found, parts.training)
    vectors = loop.embed(encoder, data.paths(parts.test.views), progress)
    return report.ranks_of(parts.test, vectors, loop.embed(encoder, data.paths(views), progress), products)
