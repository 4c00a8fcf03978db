"""Encode images with ONNX Runtime, which is faster than torch on a CPU, and find exported models."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.cpu import cpu_cores
from gpu.encoders.preprocess import Pixels
from gpu.encoders.protocol import DeviceMemoryError, Embeddings, LoadError, Pending, monotonic_seconds
from gpu.encoders.weights import Weights, cache_dir
from gpu.timings import stage

Precision = Literal["float32", "int8"]
Modality = Literal["image", "text"]


def export_folder(model_weights: Weights) -> Path:
    """Return the folder of this model's exports.

    It is in the cache, never in a folder that belongs to the user.
    """
    return cache_dir() / "onnx" / re.sub(r"[^\w.@-]+", "--", model_weights.model_id)


def export_file_name(modality: Modality, precision: Precision) -> str:
    """Return the file name of an export in its folder."""
    return f"{modality}.onnx" if precision == "float32" else f"{modality}-{precision}.onnx"


def stamp_file_name(precision: Precision) -> str:
    """Return the file name of the stamp of a precision. The stamp is written last."""
    return f"{precision}.json"


def find_export(model_weights: Weights, precision: Precision) -> Path | None:
    """Return the image encoder's file, or None if there is no usable export.

    An export is usable if it is complete and made from exactly these weights.
    """
    folder = export_folder(model_weights)
    try:
        stamp = json.loads((folder / stamp_file_name(precision)).read_text(encoding="utf-8"))
        is_complete = all((folder / name).stat().st_size == size for name, size in stamp["files"].items())
        if is_complete and stamp["fingerprint"] == model_weights.fingerprint:
            return folder / export_file_name("image", precision)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no export, or an incomplete one without its stamp
    return None


def open_session(path: Path, threads: int = 1) -> Any:
    """Open an inference session on the CPU.

    Raises LoadError if ONNX Runtime cannot read the file.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except (state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.NoSuchFile, state.RuntimeException) as error:
        raise LoadError(f"ONNX Runtime cannot load {path}: {' '.join(str(error).split())[:200]}") from error


class OnnxEncoder:
    """The image encoder in ONNX Runtime, with one batch and thread per core."""

    device = "cpu"
    # As fast as larger batches, and less idle time at the end of a run.
    cpu_batch_size = 4

    def __init__(self, path: Path, precision: Precision, model_weights: Weights) -> None:
        self.backend = "onnx" if precision == "float32" else "onnx-int8"
        self.dim = model_weights.embedding_dim
        self.preprocess = model_weights.preprocess
        self.max_in_flight = cpu_cores()
        self.used_at = monotonic_seconds()
        self._session = open_session(path)
        self._pool = ThreadPoolExecutor(self.max_in_flight, "encode")

    def start(self, batch: Sequence[Pixels]) -> Pending:
        self.used_at = monotonic_seconds()
        future = self._pool.submit(self._encode, batch)
        return lambda: future.result()

    def _encode(self, batch: Sequence[Pixels]) -> Embeddings:
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        with stage("copy"):
            pixels = np.stack(batch)
        try:
            return np.asarray(self._session.run(None, {"pixels": pixels})[0], np.float32)
        except (state.Fail, state.RuntimeException) as error:
            if "alloc" not in str(error).lower():
                raise
            raise DeviceMemoryError(str(error)) from None

    def release_memory(self) -> None:
        """Do nothing: the memory belongs to the session."""
