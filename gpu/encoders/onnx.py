"""CLIP's image tower in ONNX Runtime, which is faster than torch on a CPU, and where exported models lie."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gpu.device import cpu_cores
from gpu.encoders.preprocess import Pixels
from gpu.encoders.protocol import DeviceMemoryError, Embeddings, LoadError, Pending, monotonic_seconds
from gpu.encoders.weights import Weights, cache_dir
from gpu.timings import stage

Precision = Literal["float32", "int8"]
Modality = Literal["image", "text"]


def export_folder(found: Weights) -> Path:
    """Where the exports of this model lie: beside the weights, never inside a folder that may be somebody else's."""
    return cache_dir() / "onnx" / re.sub(r"[^\w.@-]+", "--", found.model_id)


def export_file_name(tower: Modality, precision: Precision) -> str:
    """What the export of a tower is called in ``folder``."""
    return f"{tower}.onnx" if precision == "float32" else f"{tower}-{precision}.onnx"


def stamp_file_name(precision: Precision) -> str:
    """What the stamp of a precision is called there; it is written last."""
    return f"{precision}.json"


def find_export(found: Weights, precision: Precision) -> Path | None:
    """The image tower of this precision, if it is there, whole, and made of exactly these weights; else None."""
    place = export_folder(found)
    try:
        stamp = json.loads((place / stamp_file_name(precision)).read_text(encoding="utf-8"))
        whole = all((place / name).stat().st_size == size for name, size in stamp["files"].items())
        if whole and stamp["fingerprint"] == found.fingerprint:
            return place / export_file_name("image", precision)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no export, or half of one: the stamp is written last
    return None


def open_session(path: Path, threads: int = 1) -> Any:
    """An inference session on the CPU. Raises LoadError for a file that ONNX Runtime cannot read."""
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
    """The image tower in ONNX Runtime: one session, and each core works on a batch of its own with one thread."""

    device = "cpu"
    # No slower than larger ones, and less is left for one core alone at the end of a run.
    cpu_batch_size = 4

    def __init__(self, path: Path, precision: Precision, found: Weights) -> None:
        self.backend = "onnx" if precision == "float32" else "onnx-int8"
        self.dim = found.embedding_dim
        self.preprocess = found.preprocess
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
        """Nothing to do: the runtime gives its memory back with the session."""
