"""Batch sizes: chosen by memory or setting, and halved without loss when memory runs out."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gpu.encoders.preprocess import Preprocess
from gpu.encoders.protocol import DeviceMemoryError
from gpu.pipeline.batching import CPU_BATCH_SIZE, AdaptiveBatcher, batch_size


class SmallDevice:
    """A device with memory for ``room`` images. It fails at the start of a batch, or at its result if ``late``."""

    backend, device, dim, max_in_flight, cpu_batch_size, used_at = "fake", "cuda", 1, 2, 8, 0.0
    preprocess = Preprocess(1, 1, Image.Resampling.BICUBIC, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def __init__(self, room: int, late: bool = False) -> None:
        self.room, self.late = room, late
        self.batches: list[int] = []
        self.released = 0

    def start(self, batch):
        fits = len(batch) <= self.room
        if not fits and not self.late:
            raise DeviceMemoryError("out of memory")

        def finish():
            if not fits:
                raise DeviceMemoryError("out of memory")
            self.batches.append(len(batch))
            return np.array([[pixels[0, 0, 0]] for pixels in batch], np.float32)

        return finish

    def release_memory(self):
        self.released += 1


def images(count):
    return [np.full((1, 1, 3), number, np.uint8) for number in range(count)]


@pytest.mark.parametrize(
    ("free", "size"), [(3.8, 16), (7.6, 32), (11.5, 64), (24.0, 64), (80.0, 64), (2.1, 8), (0.3, 4)]
)
def test_batch_size_follows_the_documented_table_of_free_memory(free, size):
    assert batch_size("cuda", free) == size


def test_cpu_has_its_own_batch_size_and_the_setting_overrides_it(settings):
    assert batch_size("cpu", None) == CPU_BATCH_SIZE
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"batch_size": 7}
    assert batch_size("cpu", None) == batch_size("cuda", 80.0) == 7


@pytest.mark.parametrize("late", [False, True], ids=["at the start", "at the result"])
def test_out_of_memory_halves_the_batch_and_loses_no_image(late):
    device = SmallDevice(room=5, late=late)
    batches = AdaptiveBatcher(device, 32)
    vectors = batches.start(images(70))()
    assert vectors[:, 0].tolist() == list(range(70))
    assert batches.size == 4
    assert max(device.batches) <= 5
    assert device.released >= 3  # 32, 16 and 8 did not fit


def test_reduced_batch_size_is_kept_for_later_batches():
    device = SmallDevice(room=8)
    batches = AdaptiveBatcher(device, 16)
    batches.start(images(16))()
    device.batches.clear()
    batches.start(images(16))()
    assert device.batches == [8, 8]
    assert device.released == 1


def test_single_image_that_does_not_fit_raises_an_error():
    with pytest.raises(DeviceMemoryError):
        AdaptiveBatcher(SmallDevice(room=0), 4).start(images(4))()


def test_torch_out_of_memory_error_reduces_the_batch(with_clip, monkeypatch):
    import torch

    from gpu.encoders import registry

    encoder = registry.get_encoder()
    module = encoder._module  # type: ignore[attr-defined]
    forward = module.forward

    def small(pixels):
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return forward(pixels)

    monkeypatch.setattr(module, "forward", small)
    batches = AdaptiveBatcher(encoder, 8)
    random = np.random.default_rng(0).integers(0, 256, (10, 224, 224, 3), dtype=np.uint8)
    got = batches.start(list(random))()
    monkeypatch.undo()
    assert batches.size == 2
    assert np.allclose(got, AdaptiveBatcher(encoder, 2).start(list(random))(), atol=1e-6)
