"""Load an encoder for training: which of its parameters are trained, in which precision, and how many at once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpu.encoders import weights
from gpu.encoders.modules import image_encoder
from gpu.encoders.protocol import LoadError
from gpu.encoders.torch import load_for_training
from gpu.encoders.weights import Weights, WeightsError
from gpu.training.errors import FineTuningError
from gpu.training.gradients import bytes_per_image

if TYPE_CHECKING:
    import torch

# The last third of the blocks is trained. Fewer learn less, more take longer: docs/models.md has figures.
TRAINED_SHARE = 3
# On a CPU the graph of a chunk may take this much memory, on a GPU this share of what is free.
CPU_BYTES, GPU_SHARE = 2**30, 0.4
MAX_CHUNK = 512


@dataclass(slots=True)
class Trainable:
    """An encoder in training.

    module: from pixels (n, crop, crop, 3) uint8 to unit vectors (n, dim). model: the whole model that owns its weights.
    width: of its blocks. chunk: images whose graph fits into memory.
    """

    module: Any
    model: Any
    weights: Weights
    device: str
    half: bool
    width: int
    chunk: int

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Return the parameters that are trained, by name."""
        return {name: value for name, value in self.module.named_parameters() if value.requires_grad}

    def precision(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass: bfloat16 if the device has it."""
        import torch

        return torch.autocast(self.device, torch.bfloat16) if self.half else nullcontext()

    def state(self) -> dict[str, torch.Tensor]:
        """Return a copy of the trained parameters."""
        return {name: value.detach().cpu().clone() for name, value in self.parameters.items()}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Set the trained parameters. Raises FineTuningError if they are those of another model."""
        import torch

        own = self.parameters
        if state.keys() != own.keys() or any(state[name].shape != own[name].shape for name in own):
            raise FineTuningError("The checkpoint belongs to another model. Choose another folder with --out.")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])


def find_trainable(source: str) -> Weights:
    """Return the model to start from, without loading it. Raises FineTuningError."""
    try:
        found = weights.find_weights(source)
    except WeightsError as error:
        raise FineTuningError(f"{error} --start-from names a model folder or a model of the hub.") from error
    if found.onnx is not None:
        raise FineTuningError(
            f"{found.onnx.path} is an ONNX file, which cannot be trained. Start from a model that torch loads: "
            "--start-from with a model folder or a name of the hub, such as facebook/dinov2-small."
        )
    return found


def load(model_weights: Weights, device: str | None = None) -> Trainable:
    """Load the encoder, and choose what is trained. Raises FineTuningError for a model that does not do what it says.

    The module stays in evaluation mode: without dropout, so that it computes the same twice.
    """
    import torch

    try:
        model = load_for_training(model_weights, device)
    except LoadError as error:
        raise FineTuningError(str(error)) from error
    module = image_encoder(model, model_weights.preprocess)
    module.to(model.device)
    kind = str(model.device.type)
    width = _choose_parameters(module)
    trainable = Trainable(module, model, model_weights, kind, _has_bfloat16(kind), width, 1)
    side = model_weights.preprocess.crop
    noise = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    pixels = torch.from_numpy(noise).to(model.device)
    try:
        _check(trainable, pixels)
        per_image = bytes_per_image(module, pixels, trainable.precision)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise FineTuningError(f"{model_weights.model_id} cannot encode images of {side} pixels: {reason}") from error
    budget = int(torch.cuda.mem_get_info()[0] * GPU_SHARE) if kind == "cuda" else CPU_BYTES
    trainable.chunk = max(2, min(MAX_CHUNK, budget // max(1, per_image)))
    return trainable


def _choose_parameters(module: Any) -> int:
    """Freeze all but the last blocks and what comes after them. Return the width of the blocks."""
    import torch

    named = list(module.named_parameters())
    lists = [(name, part) for name, part in module.vision.named_modules() if isinstance(part, torch.nn.ModuleList)]
    if not lists:
        raise FineTuningError("This model has no blocks of which the last ones could be trained.")
    path, blocks = max(lists, key=lambda pair: len(pair[1]))
    first = len(blocks) - -(-len(blocks) // TRAINED_SHARE)
    start = next(place for place, (name, _) in enumerate(named) if name.startswith(f"vision.{path}.{first}."))
    for place, (_, parameter) in enumerate(named):
        parameter.requires_grad_(place >= start)
    config = module.vision.config
    return int(config.hidden_size if hasattr(config, "hidden_size") else config.hidden_sizes[-1])


def _has_bfloat16(device: str) -> bool:
    """Return whether the device computes bfloat16 itself. Others would be several times slower than in float32."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device == "cpu" and supported is not None and bool(supported())


def _check(trainable: Trainable, pixels: torch.Tensor) -> None:
    """Check the vectors of two images. Raises FineTuningError."""
    import torch

    with torch.no_grad():
        vectors = trainable.module(pixels).cpu().numpy()
    declared, name = trainable.weights.embedding_dim, trainable.weights.model_id
    if declared != vectors.shape[1]:
        raise FineTuningError(
            f"{name} says that its vectors have {declared} numbers, but they have {vectors.shape[1]}."
        )
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):  # also false for NaN
        raise FineTuningError(f"{name} gives vectors that are zero or not finite. Its weights are damaged.")


def model_bytes(model_weights: Weights) -> int:
    """Return the bytes of the model's files."""
    return sum(Path(path).stat().st_size for path, _, _ in model_weights.signature)
