"""On a real GPU: the vectors of the CPU, and the use of GPU memory. Skipped without a GPU."""

from __future__ import annotations

import numpy as np
import pytest

from gpu.clip import process_batch
from gpu.device import get_device_info
from gpu.encoders import registry
from gpu.imaging.errors import ImageProcessingError
from gpu.pipeline import run
from gpu.pipeline.preprocess_image import EmbedRequest
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.gpu


@pytest.fixture
def gpu(with_clip):
    """Return torch with the small CLIP on a GPU. Skip the test without a GPU."""
    torch = pytest.importorskip("torch")
    if get_device_info()["device"] not in ("cuda", "rocm"):
        pytest.skip("no GPU that torch can use")
    return torch


@pytest.fixture
def files(tmp_path):
    """Write forty photographs. The third is damaged."""
    paths = [tmp_path / f"{number}.jpg" for number in range(40)]
    for number, path in enumerate(paths):
        data = jpeg(number, (320, 240))
        path.write_bytes(data[: len(data) // 2] if number == 2 else data)
    return paths


def test_half_precision_gives_the_vectors_of_the_cpu(gpu, files, settings):
    on_gpu = process_batch(files)
    registry.unload()
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"force_cpu": True}
    on_cpu = process_batch(files)

    for number, (one, other) in enumerate(zip(on_gpu, on_cpu, strict=True)):
        if number == 2:
            assert isinstance(one, ImageProcessingError)
            assert isinstance(other, ImageProcessingError)
        else:
            assert isinstance(one, np.ndarray)
            assert isinstance(other, np.ndarray)
            assert float(one @ other) >= 0.999


def test_gpu_out_of_memory_loses_no_image_and_releases_its_memory(gpu, files):
    process_batch(files)  # loads the model
    gpu.cuda.empty_cache()
    idle = gpu.cuda.memory_allocated()
    free, _ = gpu.cuda.mem_get_info()
    hoard = gpu.empty(max(0, free - 96 * 2**20), dtype=gpu.uint8, device="cuda")
    try:
        jobs = [EmbedRequest(path, clip=True, legacy=False) for path in files * 8]
        results = list(run.run_pipeline(jobs, batch_size=320))
    finally:
        del hoard
        gpu.cuda.empty_cache()

    vectors = [result.clip for result in results if isinstance(result, run.ImageFeatures) and result.clip is not None]
    assert len(results) == 320
    assert len(vectors) == 312
    assert np.isfinite([features.color for features in vectors]).all()
    assert gpu.cuda.memory_allocated() <= idle + 2**20


def test_unloading_releases_the_gpu_memory(gpu, files):
    process_batch(files)
    registry.unload()
    of_libraries = gpu.cuda.memory_allocated()  # cuBLAS keeps its workspace until the process ends
    process_batch(files)
    weights = sum(part.nbytes for part in registry.get_clip_model().parameters())
    assert gpu.cuda.memory_allocated() >= of_libraries + weights
    registry.unload()
    assert gpu.cuda.memory_allocated() == of_libraries


def test_batches_in_flight_do_not_mix(gpu, files):
    """Many small batches on two streams give what one large batch gives."""
    small, large = process_batch(files * 4, batch_size=3), process_batch(files * 4, batch_size=160)
    for number, (one, other) in enumerate(zip(small, large, strict=True)):
        if number % len(files) == 2:
            assert isinstance(one, ImageProcessingError)
        else:
            assert isinstance(one, np.ndarray)
            assert isinstance(other, np.ndarray)
            assert float(one @ other) >= 0.999
