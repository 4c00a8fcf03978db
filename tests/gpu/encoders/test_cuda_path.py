"""The order of operations on a CUDA device, recorded by a fake device."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from gpu.encoders import registry
from gpu.encoders.torch import TorchEncoder
from gpu.pipeline.batching import AdaptiveBatcher


class Device:
    """Fake streams and events. Every operation finishes at once and is recorded in ``log``."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.events = 0


@pytest.fixture
def device(with_clip, monkeypatch):
    """Return the encoder of the small CLIP on a fake GPU, and that device."""
    import torch

    device = Device()

    class Stream:
        def __init__(self, name):
            self.name = name

        def wait_stream(self, other):
            device.log.append(f"{self.name} waits for {other.name}")

    class Event:
        def __init__(self):
            self.number = device.events
            device.events += 1

        def record(self, stream):
            device.log.append(f"batch {self.number} ends {stream.name}")

        def synchronize(self):
            device.log.append(f"wait for batch {self.number}")

    @contextmanager
    def on(stream):
        device.log.append(f"begin {stream.name}")
        yield
        device.log.append(f"end {stream.name}")

    empty, computing = torch.empty, Stream("computing")
    monkeypatch.setattr(torch, "empty", lambda *args, pin_memory=False, **more: empty(*args, **more))
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda of: computing)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda self, stream: device.log.append(f"kept for {stream.name}")
    )
    encoder = registry.get_encoder()
    monkeypatch.setattr(encoder, "_pool", None)
    monkeypatch.setattr(encoder, "_copies", Stream("copies"))
    return device


def images(count):
    return list(np.random.default_rng(0).integers(0, 256, (count, 224, 224, 3), dtype=np.uint8))


def test_batch_is_copied_while_the_previous_one_is_computed(device):
    registry.get_encoder().start(images(2))()
    assert device.log == [
        "begin copies", "end copies", "computing waits for copies", "kept for computing", "batch 0 ends computing",
        "wait for batch 0",
    ]  # fmt: skip


def test_result_of_a_batch_does_not_wait_for_later_batches(device):
    encoder = registry.get_encoder()
    assert isinstance(encoder, TorchEncoder)
    first, second = encoder.start(images(2)), encoder.start(images(3))
    device.log.clear()
    first()
    assert device.log == ["wait for batch 0"]
    assert second().shape == (3, 512)


def test_vectors_equal_those_of_the_cpu(with_clip, request):
    expected = AdaptiveBatcher(registry.get_encoder(), 4).start(images(9))()
    request.getfixturevalue("device")
    actual = AdaptiveBatcher(registry.get_encoder(), 4).start(images(9))()
    assert np.einsum("ij,ij->i", expected, actual).min() > 0.99999


@pytest.mark.parametrize(
    ("message", "is_memory"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 MiB", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("MPS backend out of memory", True),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_only_out_of_memory_errors_reduce_the_batch(message, is_memory, device, monkeypatch):
    encoder = registry.get_encoder()
    assert isinstance(encoder, TorchEncoder)
    forward = encoder._module.forward

    def fails(pixels):
        if len(pixels) > 2:
            raise RuntimeError(message)
        return forward(pixels)

    monkeypatch.setattr(encoder._module, "forward", fails)
    batches = AdaptiveBatcher(encoder, 4)
    if is_memory:
        assert batches.start(images(5))().shape == (5, 512)
        assert batches.size == 2
    else:
        with pytest.raises(RuntimeError, match="illegal"):
            batches.start(images(5))
