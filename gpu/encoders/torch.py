"""Load models in torch, and encode images with them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.cpu import cpu_cores
from gpu.device import empty_cache, get_device_info
from gpu.encoders.families import WITH_PROJECTION, family_of
from gpu.encoders.folders import module_folder, safetensors_names
from gpu.encoders.model_files import read_json
from gpu.encoders.preprocess import Pixels
from gpu.encoders.protocol import DeviceMemoryError, Embeddings, LoadError, Pending, monotonic_seconds
from gpu.encoders.weights import Weights
from gpu.timings import stage

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

# How torch words it for CUDA, Apple's GPU, main memory, cuBLAS and cuDNN.
_OUT_OF_MEMORY = ("out of memory", "allocate memory", "alloc_failed")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether torch says that a device's memory is full."""
    return any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def load_torch(
    model_weights: Weights, device: str | None = None, *, full_precision: bool = False
) -> SentenceTransformer:
    """Load a sentence-transformers model on ``device`` (default: the best one). Raises LoadError."""
    import torch
    from sentence_transformers import SentenceTransformer

    with _loading(model_weights.model_id, model_weights.folder, device) as target:
        model = SentenceTransformer(
            str(model_weights.folder),
            device=target,
            local_files_only=True,
            # Half precision is twice as fast on CUDA, slower on a CPU, and not measured on Apple's GPU.
            model_kwargs={"dtype": torch.float16 if target == "cuda" and not full_precision else torch.float32},
        )
        clip: Any = model[0].auto_model
        file = next(model_weights.folder.rglob("model.safetensors"), None)
        names = {name for name, _ in clip.named_parameters()}
        if file is not None and (missing := names - safetensors_names(file)) and missing != names:
            raise ValueError(f"its weights lack {len(missing)} parts, such as {min(missing)}")
    return model


def load_vision_model(model_weights: Weights, device: str | None = None, *, full_precision: bool = False) -> Any:
    """Load a vision model of transformers on ``device`` (default: the best one). Raises LoadError."""
    # The memory of the text model is better used.
    return _load_with_transformers(model_weights, device, "text_model", full_precision)


def load_two_towers(model_weights: Weights, device: str | None = None) -> Any:
    """Load the text part of a model of transformers with two parts. Raises LoadError."""
    return _load_with_transformers(model_weights, device, "vision_model")


def load_for_training(model_weights: Weights, device: str | None = None) -> Any:
    """Load the model of transformers in a model folder with all its parts in full precision. Raises LoadError."""
    return _load_with_transformers(model_weights, device, None)


def load_text_model(folder: Path, device: str | None = None) -> SentenceTransformer:
    """Load a sentence-transformers text model. Raises LoadError."""
    from sentence_transformers import SentenceTransformer

    with _loading(folder.name, folder, device) as target:
        return SentenceTransformer(str(folder), device=target, local_files_only=True)


def _load_with_transformers(
    model_weights: Weights, device: str | None, unused: str | None, full_precision: bool = False
) -> Any:
    """Load a model without its part ``unused``; None loads all in full precision. Raises LoadError."""
    import torch
    import transformers

    folder = module_folder(model_weights.folder)
    config = read_json(folder / "config.json")
    family = family_of(config)
    architecture = str((config.get("architectures") or [""])[0])
    loader: Any = getattr(transformers, architecture if architecture in WITH_PROJECTION else "AutoModel")
    with _loading(model_weights.model_id, model_weights.folder, device) as target:
        full_precision = full_precision or unused is None
        half = target == "cuda" and family is not None and family.half and not full_precision
        model, report = loader.from_pretrained(
            str(folder),
            local_files_only=True,
            dtype=torch.float16 if half else torch.float32,
            output_loading_info=True,
        )
        # A part that the file does not have would get random weights. The mask is for training only.
        missing = sorted(name for name in report["missing_keys"] if not name.endswith("mask_token"))
        if missing:
            raise ValueError(f"its weights lack {len(missing)} parts, such as {missing[0]}")
        if unused is not None and hasattr(model, unused):
            delattr(model, unused)
        return model.to(target).eval()


@contextmanager
def _loading(model_id: str, folder: Path, device: str | None) -> Iterator[str]:
    """Choose the device, and turn what the libraries raise for wrong model folders into LoadError."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    info = get_device_info()
    target = device or ("cuda" if info["device"] == "rocm" else info["device"])
    started = time.monotonic()
    # What the libraries raise for complete but wrong model folders. Torch raises RuntimeError.
    load_errors = (OSError, ValueError, RuntimeError, LookupError, AttributeError, TypeError, ImportError)
    try:
        yield target
    except (*load_errors, SafetensorError, StrictDataclassError) as error:
        reason = f"The model in {folder} cannot be loaded: {' '.join(str(error).split())[:300]}"
        raise LoadError(reason) from error
    seconds = time.monotonic() - started
    logger.info("Loaded %s on %s in %.1f s. %s", model_id, target, seconds, info["reason"])


class TorchEncoder:
    """The image encoder ("vision tower") in torch, on the device of the model.

    On a GPU ``start`` only launches the computation, and the returned function waits for it. On a CPU each core
    encodes a batch of its own with one thread, because threads that share a batch wait for each other.
    """

    cpu_batch_size = 8

    def __init__(
        self, module: torch.nn.Module, device: str | torch.device, model_weights: Weights, backend: str = "torch"
    ) -> None:
        import torch

        self.backend = backend
        self._device = torch.device(device)
        self._module = module.to(self._device)
        self.preprocess = model_weights.preprocess
        self.device = str(self._device.type)
        self.dim = model_weights.embedding_dim or 0
        self._pool: ThreadPoolExecutor | None = None
        self._copies: torch.cuda.Stream | None = None
        self.max_in_flight = 2
        self.used_at = monotonic_seconds()
        if self.device == "cpu":
            self.max_in_flight = cpu_cores()
            self._pool = ThreadPoolExecutor(
                self.max_in_flight, "encode", initializer=torch.set_num_threads, initargs=(1,)
            )
        elif self.device == "cuda":
            self._copies = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def start(self, batch: Sequence[Pixels]) -> Pending:
        self.used_at = monotonic_seconds()
        if self._pool is not None:
            future = self._pool.submit(self._encode, batch)
            return lambda: future.result()()
        return self._encode(batch)

    def _encode(self, batch: Sequence[Pixels]) -> Pending:
        """Compute the vectors. On a GPU this returns before they are ready."""
        import torch

        try:
            with stage("copy"):
                pixels = torch.empty(
                    (len(batch), *batch[0].shape), dtype=torch.uint8, pin_memory=self._copies is not None
                )
                np.stack(batch, out=pixels.numpy())
                on_device = self._on_device(pixels)
            with torch.inference_mode():
                return self._copy_back(self._module(on_device))
        except RuntimeError as error:  # torch.OutOfMemoryError is a RuntimeError; other devices raise plain ones
            if not is_out_of_memory(error):
                raise
            raise DeviceMemoryError(str(error)) from None

    def _on_device(self, pixels: torch.Tensor) -> torch.Tensor:
        import torch

        if self._copies is None:
            return pixels.to(self._device)
        # A stream of its own lets the copy run while the previous batch is computed.
        with torch.cuda.stream(self._copies):
            on_device = pixels.to(self._device, non_blocking=True)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._copies)
        on_device.record_stream(computing)  # keep its memory from the next copy while it is still read
        return on_device

    def _copy_back(self, vectors: torch.Tensor) -> Pending:
        import torch

        if self._copies is None:
            return lambda: np.asarray(vectors.cpu())
        # Queue the copy right behind its batch. Later it would wait for all batches started since.
        on_host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
        on_host.copy_(vectors, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self._device))

        def wait() -> Embeddings:
            done.synchronize()
            return np.asarray(on_host)

        return wait

    def release_memory(self) -> None:
        empty_cache()
