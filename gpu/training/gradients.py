"""Gradients of a large batch in the memory of a small one.

Source: Gao et al., "Scaling deep contrastive learning batch size under memory limited setup", 2021 (GradCache).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Precision = Callable[[], AbstractContextManager[Any]]


def backward(
    module: torch.nn.Module,
    pixels: torch.Tensor,
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    chunk: int,
    precision: Precision,
) -> float:
    """Add the gradients of ``loss_of(module(pixels))`` to the module's parameters. Return the loss.

    First all vectors are computed without a graph, and the gradient of the loss for each vector. Then each chunk is
    encoded again and takes its part. A batch of one chunk needs no first pass. The module must compute the same twice.
    """
    import torch

    if len(pixels) <= chunk:
        with precision():
            vectors = module(pixels)
        loss = loss_of(vectors.float())
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())
    chunks = torch.split(pixels, chunk)
    with torch.no_grad(), precision():
        cached = torch.cat([module(part).float() for part in chunks])
    cached.requires_grad_()
    loss = loss_of(cached)
    loss.backward()  # type: ignore[no-untyped-call]
    assert cached.grad is not None  # noqa: S101  # nosec B101 # the loss depends on them
    for part, gradient in zip(chunks, torch.split(cached.grad, chunk), strict=True):
        with precision():
            vectors = module(part)
        vectors.float().backward(gradient)
    return float(loss.detach())


def bytes_per_image(module: torch.nn.Module, pixels: torch.Tensor, precision: Precision) -> int:
    """Return what the graph of one image keeps in memory, measured with these two or more."""
    import torch

    weights = {parameter.data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), precision():
        module(pixels)
    return sum(kept.values()) // len(pixels)
