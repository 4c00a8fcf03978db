"""Export the separate text model (CLIP_TEXT_MODEL) to ONNX, and compare it with torch before use."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from core import files
from gpu.encoders import onnx
from gpu.encoders.onnx_export import MIN_COSINE, SENTENCES, ExportError, write_module
from gpu.text import files as text_files
from gpu.text.encoder import load_module, load_tokenizer
from gpu.text.files import TextModel, TextUnavailableError


def export_text_model() -> tuple[Path, float]:
    """Export CLIP_TEXT_MODEL and install it if it agrees with torch. Return its file and the lowest cosine.

    The export is float32 and becomes visible only when it is complete. Raises ExportError and LoadError.
    """
    if not text_files.configured():
        raise ExportError("CLIP_TEXT_MODEL is not set. The model's own text encoder is exported with its images.")
    try:
        model = text_files.find_text_model()
    except TextUnavailableError as error:
        raise ExportError(str(error)) from error
    folder = onnx.export_folder(model)
    try:
        files.make_folder(folder)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
            return _export(model, folder, Path(temporary))
    except OSError as error:
        raise ExportError(f"The export cannot be written to {folder}: {error.strerror or error}.") from error


def _export(model: TextModel, folder: Path, work: Path) -> tuple[Path, float]:
    import torch

    module = load_module(model, "cpu")
    words = load_tokenizer(model.folder)(list(SENTENCES), padding=True, return_tensors="pt")
    example = (words["input_ids"], words["attention_mask"])
    name, stamp_name = onnx.export_file_name("text", "float32"), onnx.stamp_file_name("float32")
    axes = {0: "n", 1: "tokens"}
    write_module(module, example, {"input_ids": axes, "attention_mask": axes}, work / name)
    with torch.inference_mode():
        expected = module(*example).numpy()
    feed = {"input_ids": example[0].numpy(), "attention_mask": example[1].numpy()}
    actual = np.asarray(onnx.open_session(work / name).run(None, feed)[0])
    if (worst := float(np.einsum("ij,ij->i", expected, actual).min())) < MIN_COSINE["float32"]:
        raise ExportError(f"The exported text model differs from torch: cosine {worst:.5f}.")
    stamp = {
        "model_id": model.model_id,
        "fingerprint": model.fingerprint,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {name: (work / name).stat().st_size},
    }
    (work / stamp_name).write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")
    for file in (name, stamp_name):  # the stamp last
        files.sync_file(work / file)
        (work / file).replace(folder / file)
        files.sync_folder(folder)
    return folder / name, worst
