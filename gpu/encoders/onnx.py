"""Encode images with ONNX Runtime, which is faster than torch on a CPU: exported models and any ONNX file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from core.cpu import cpu_cores
from gpu.encoders.model_files import OnnxImageModel
from gpu.encoders.preprocess import Pixels, Preprocess
from gpu.encoders.protocol import DeviceMemoryError, Embeddings, LoadError, Pending, monotonic_seconds
from gpu.encoders.weights import Weights, cache_dir
from gpu.timings import stage

Precision = Literal["float32", "int8"]
Modality = Literal["image", "text"]


class ModelFiles(Protocol):
    """What an export is named after, and made from."""

    @property
    def model_id(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...


def export_folder(model_weights: ModelFiles) -> Path:
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


def find_export(model_weights: ModelFiles, precision: Precision) -> Path | None:
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


def open_export(path: Path, precision: Precision, model_weights: Weights) -> OnnxEncoder:
    """Load an exported image encoder, or an ONNX file or its INT8 version. Raises LoadError."""
    backend = "onnx" if precision == "float32" else "onnx-int8"
    if model_weights.onnx is not None:
        return OnnxFileEncoder(replace(model_weights.onnx, path=path), model_weights.preprocess, backend)
    return OnnxEncoder(path, backend, model_weights.embedding_dim or 0, model_weights.preprocess)


def open_session(path: Path, threads: int = 1) -> Any:
    """Open an inference session on the CPU.

    Raises LoadError if ONNX Runtime cannot read the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except _runtime_errors() as error:
        raise LoadError(f"ONNX Runtime cannot load {path}: {_one_line(error)}") from error


def _runtime_errors() -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        RuntimeError,
        ValueError,
        state.EPFail,
        state.EngineError,
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoModel,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


class OnnxEncoder:
    """An exported image encoder in ONNX Runtime, with one batch and thread per core."""

    device = "cpu"
    # As fast as larger batches, and less idle time at the end of a run.
    cpu_batch_size = 4

    def __init__(self, path: Path, backend: str, dim: int, preprocess: Preprocess) -> None:
        self.backend = backend
        self.dim = dim
        self.preprocess = preprocess
        self.max_in_flight = cpu_cores()
        self.used_at = monotonic_seconds()
        self._session = open_session(path)
        self._pool = ThreadPoolExecutor(self.max_in_flight, "encode")

    def start(self, batch: Sequence[Pixels]) -> Pending:
        self.used_at = monotonic_seconds()
        future = self._pool.submit(self._encode, batch)
        return lambda: future.result()

    def _encode(self, batch: Sequence[Pixels]) -> Embeddings:
        with stage("copy"):
            pixels = np.stack(batch)
        try:
            return self._run(pixels)
        except _runtime_errors() as error:
            if "alloc" not in str(error).lower():
                raise
            raise DeviceMemoryError(str(error)) from None

    def _run(self, pixels: Pixels) -> Embeddings:
        return np.asarray(self._session.run(None, {"pixels": pixels})[0], np.float32)

    def release_memory(self) -> None:
        """Do nothing: the memory belongs to the session."""


class OnnxFileEncoder(OnnxEncoder):
    """Any ONNX image encoder that has a description beside it."""

    def __init__(self, model: OnnxImageModel, preprocess: Preprocess, backend: str = "onnx") -> None:
        super().__init__(model.path, backend, 0, preprocess)  # the first images show the length of the vectors
        self._model = model
        if model.batch is not None:
            self.cpu_batch_size = model.batch
        (declared,) = self._session.get_inputs()
        types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        if declared.type not in types:
            raise LoadError(f"{model.path} takes {declared.type} instead of floating-point numbers.")
        self._type = types[declared.type]
        self._scale, self._shift = preprocess.scale_and_shift()

    def _run(self, pixels: Pixels) -> Embeddings:
        values = self._normalised(pixels)
        parts = [values] if self._model.batch is None else np.split(values, len(values))
        results = [self._session.run([self._model.output], {self._model.input: part})[0] for part in parts]
        vectors = np.concatenate([np.asarray(result, np.float32) for result in results])
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # callers check for NaN
            return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)

    def tokens(self, pixels: Pixels) -> tuple[Embeddings, Embeddings]:
        """Return the vector (1, dim) of one image before scaling, and its tokens. Runs in the calling thread."""
        self.used_at = monotonic_seconds()
        outputs = [self._model.output, self._model.tokens_output]
        vector, tokens = self._session.run(outputs, {self._model.input: self._normalised(pixels)})
        return np.asarray(vector, np.float32), np.asarray(tokens, np.float32)

    def _normalised(self, pixels: Pixels) -> Any:
        values = (pixels * self._scale + self._shift).astype(self._type, copy=False)
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if self._model.layout == "NCHW" else values
