"""Write a trained encoder as a model folder that can be loaded like the one it was made from."""

from __future__ import annotations

import shutil
from pathlib import Path

from core import files
from gpu.encoders.folders import module_folder
from gpu.encoders.weights import WeightsError, find_weights
from gpu.training.errors import FineTuningError
from gpu.training.trainable import Trainable

REPORT = "fine_tuning.json"
# Small files beside the weights: configurations, tokenizer, vocabulary.
_COPIED = (".json", ".txt", ".model", ".md")
_WEIGHT_LISTS = ("model.safetensors.index.json", "pytorch_model.bin.index.json", REPORT)


def write_model(trainable: Trainable, folder: Path, report: bytes) -> str:
    """Write the model and a report to a new folder, and return the name of its vectors. Raises FineTuningError.

    The folder is complete when it appears under its name.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    source = trainable.weights.folder
    try:
        files.make_folder(part)
        module = part / module_folder(source).relative_to(source)
        files.make_folder(module)
        trainable.model.save_pretrained(module)
        for path in source.rglob("*"):
            wanted = path.suffix in _COPIED and path.name not in _WEIGHT_LISTS and path.is_file()
            if wanted and not any(name.startswith(".") for name in path.relative_to(source).parts):
                files.make_folder((part / path.relative_to(source)).parent)
                shutil.copyfile(path, part / path.relative_to(source))
        (part / REPORT).write_bytes(report)
        for path in part.rglob("*"):
            if path.is_dir():
                files.make_folder(path)
            else:
                files.sync_file(path)
        find_weights(str(part))
        files.sync_folder(part)
        part.replace(folder)
        files.sync_folder(folder.parent)
        return find_weights(str(folder)).model_id
    except (OSError, RuntimeError, WeightsError) as error:
        shutil.rmtree(part, ignore_errors=True)
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:300]
        raise FineTuningError(
            f"The model cannot be written to {folder}: {reason}. Its checkpoint stays: give the same command again."
        ) from error
