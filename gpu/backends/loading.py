"""Load a model with a certain backend."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from gpu.encoders import onnx
from gpu.encoders.modules import image_encoder, use_precision
from gpu.encoders.protocol import Encoder, LoadError
from gpu.encoders.torch import TorchEncoder, load_torch, load_vision_model
from gpu.encoders.weights import Weights


def model_file(backend: str, model_weights: Weights) -> Path | None:
    """Return the ONNX file that the backend loads, or None if it loads the weights or has no file yet."""
    if backend == "onnx-int8":
        return onnx.find_export(model_weights, "int8")
    if backend == "onnx":
        return model_weights.onnx.path if model_weights.onnx else onnx.find_export(model_weights, "float32")
    return None


def is_ready(backend: str, model_weights: Weights) -> bool:
    """Return whether the backend is installed and has the file that it loads. Imports nothing."""
    if backend.startswith("torch"):
        return model_weights.onnx is None and _is_installed("torch")
    return _is_installed("onnxruntime") and model_file(backend, model_weights) is not None


def load_encoder(backend: str, model_weights: Weights) -> Encoder:
    """Load the image encoder. ``torch-float32`` is torch without half precision on any device. Raises LoadError."""
    if backend.startswith("torch"):
        return _load_torch(backend, model_weights)
    path = model_file(backend, model_weights)
    if path is None:
        raise LoadError(f"There is no file of {model_weights.model_id} for {backend}.")
    return onnx.open_export(path, "float32" if backend == "onnx" else "int8", model_weights)


def _load_torch(backend: str, model_weights: Weights) -> TorchEncoder:
    precision = backend.partition("-")[2]
    model: Any
    if model_weights.format == "sentence-transformers":
        loaded = load_torch(model_weights, full_precision=bool(precision))
        model, device = loaded[0].auto_model, loaded.device
    else:
        model = load_vision_model(model_weights, full_precision=bool(precision))
        device = model.device
    if precision in {"bfloat16", "float16"}:
        use_precision(model, precision)
    return TorchEncoder(image_encoder(model, model_weights.preprocess), device, model_weights, backend)


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
