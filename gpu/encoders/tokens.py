"""The vectors of an image's patches, for explanations: which regions two images have in common."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu.encoders import onnx, registry, weights
from gpu.encoders.modules import token_encoder
from gpu.encoders.preprocess import Pixels, Preprocess
from gpu.encoders.protocol import LoadError
from gpu.encoders.torch import load_vision_model
from gpu.encoders.weights import Weights

Floats = npt.NDArray[np.float32]


class TokensUnavailableError(Exception):
    """The model gives no vectors of patches. The message says why in one line."""


@dataclass(frozen=True, eq=False, slots=True)
class Patches:
    """The patches of an image. ``vectors`` (rows · columns, dim), row by row. ``embedding`` (dim,): the image's own."""

    vectors: Floats
    embedding: Floats
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class TokenEncoder:
    """Encodes the patches of one image at a time. Threads may share it."""

    preprocess: Preprocess
    run: Callable[[Pixels], tuple[Floats, Floats]]

    def patches(self, pixels: Pixels) -> Patches:
        """Return the patches of one image (crop, crop, 3). Raises TokensUnavailableError."""
        embedding, tokens = self.run(pixels[None])
        vectors, rows, columns = _grid(tokens[0])
        return Patches(vectors, embedding[0], rows, columns)


_lock = threading.Lock()
_loaded: dict[str, tuple[object, TokenEncoder]] = {}


def get_token_encoder(name: str | None = None) -> TokenEncoder:
    """Return the configured (or named) model with its patches, loaded once per process.

    Raises TokensUnavailableError.
    """
    status = registry.clip_status(name)
    if status.reason is not None:
        raise TokensUnavailableError(status.reason)
    model = weights.find_weights(name)
    with _lock:
        found = _loaded.get(model.model_id)
        if found is None or found[0] != model.signature:
            _loaded.clear()
            try:
                found = (model.signature, _load(model, name))
            except (LoadError, registry.ClipUnavailableError) as error:
                raise TokensUnavailableError(str(error)) from error
            _loaded[model.model_id] = found
        return found[1]


def unload() -> None:
    """Drop the model. The next use reloads it."""
    with _lock:
        _loaded.clear()


def _load(model: Weights, name: str | None) -> TokenEncoder:
    """Load the model. An exported CLIP is loaded in torch, because its export computes the class token alone."""
    if model.onnx is not None:
        if model.onnx.tokens_output is None:
            raise TokensUnavailableError(
                f'{model.model_id} has no vectors of patches. "tokens_output" in its JSON can name them.'
            )
        encoder = registry.get_encoder(name)
        assert isinstance(encoder, onnx.OnnxFileEncoder)  # noqa: S101  # nosec B101 # for the type checker
        return TokenEncoder(model.preprocess, encoder.tokens)
    if model.format == "sentence-transformers":
        vision = registry.get_clip_model(name)[0].auto_model
    else:
        vision = load_vision_model(model)
    return TokenEncoder(model.preprocess, _torch_run(token_encoder(vision, model.preprocess)))


def _torch_run(module: Any) -> Callable[[Pixels], tuple[Floats, Floats]]:
    import torch

    device = next(module.parameters()).device

    def run(pixels: Pixels) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            embedding, tokens = module(torch.from_numpy(np.array(pixels)).to(device))
        return embedding.cpu().numpy(), tokens.cpu().numpy()

    return run


def _grid(tokens: Floats) -> tuple[Floats, int, int]:
    """Return the vectors of the patches, and their rows and columns.

    Tokens are (tokens, dim), where the class token and registers come first, or a map (dim, rows, columns). Raises
    TokensUnavailableError.
    """
    if tokens.ndim == 3:
        dim, rows, columns = tokens.shape
        return np.ascontiguousarray(tokens.reshape(dim, rows * columns).T), rows, columns
    side = math.isqrt(tokens.shape[0]) if tokens.ndim == 2 else 0
    if side < 2:
        raise TokensUnavailableError(f"The model's patches have the shape {tokens.shape}, which is no grid.")
    return tokens[-side * side :], side, side
