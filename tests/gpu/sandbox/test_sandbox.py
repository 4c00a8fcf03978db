"""The sandboxed decoder: its results, and its recovery from crashes and hangs."""

from __future__ import annotations

import io
import multiprocessing
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import ExifTags, Image

from gpu.images import decode
from gpu.imaging import limits
from gpu.imaging.errors import ImageProcessingError
from gpu.legacy import extract_legacy
from gpu.sandbox import pool as sandbox_pool
from gpu.sandbox.pool import decode_in_sandbox
from matching.similarity import compute_legacy_similarity
from tests.helpers import bad_images, sample_images
from tests.helpers.installations import REPO


@pytest.fixture
def decoder_settings(settings: Any) -> Any:
    """Return the settings for decoders that start with them and end with the test."""
    sandbox_pool.close()
    yield settings
    sandbox_pool.close()


def open_jpeg(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg))


def error_code_of(data: bytes) -> str:
    with pytest.raises(ImageProcessingError) as caught:
        decode_in_sandbox(data, 400, 100)
    return caught.value.code


def decoders() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "gpu.sandbox.server" in child.cmdline()]


def mean_difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean())


# --- results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sample_images.FORMATS)
def test_every_accepted_format_is_decoded_to_the_same_image(kind: str) -> None:
    image = sample_images.drawing(1, (200, 150))
    derived = decode_in_sandbox(sample_images.as_file(image, kind), 400, 100)
    assert (derived.width, derived.height) == (200, 150)
    assert open_jpeg(derived.jpeg).format == "JPEG"
    assert mean_difference(open_jpeg(derived.jpeg), image) < 6
    assert open_jpeg(derived.thumbnail).size == (100, 75)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF"])
@pytest.mark.parametrize("size", [(1800, 1300), (2401, 603)], ids=str)
def test_large_image_is_reduced_without_a_visible_difference(kind: str, size: tuple[int, int]) -> None:
    image = sample_images.drawing(2, size)
    derived = decode_in_sandbox(sample_images.as_file(image, kind), 300, 100)
    small = open_jpeg(derived.jpeg)
    assert (derived.width, derived.height) == size
    assert max(small.size) == 300
    assert mean_difference(small, image.resize(small.size, Image.Resampling.LANCZOS)) < 4


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_reducing_in_strips_equals_reducing_the_whole_image(mode: str) -> None:
    image = sample_images.drawing(3, (1500, 1400))
    odd = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257) if mode == "I;16" else image
    data = sample_images.as_file(odd if mode == "I;16" else odd.convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    small = open_jpeg(decode_in_sandbox(data, 300, 100).jpeg)
    whole = decode(data).resize(small.size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    assert mean_difference(small, whole) < 2.5


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF"])
def test_rotated_image_becomes_upright(kind: str, orientation: int) -> None:
    upright = sample_images.drawing(4, (240, 160))
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"lossless": True} if kind == "WebP" else {}
    turned = decode_in_sandbox(sample_images.as_file(upright.transpose(back), kind, exif=exif, **options), 400, 100)
    assert (turned.width, turned.height) == (240, 160)
    straight = decode_in_sandbox(sample_images.as_file(upright, kind, **options), 400, 100)
    assert mean_difference(open_jpeg(turned.jpeg), open_jpeg(straight.jpeg)) < 3
    features = [extract_legacy(open_jpeg(jpeg)) for jpeg in (turned.jpeg, straight.jpeg)]
    assert compute_legacy_similarity(*features) >= 99


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "AVIF", "HEIC", "TIFF"])
def test_sandbox_returns_only_pixels(kind: str) -> None:
    secret = b"GPS of a kitchen table"
    exif = Image.Exif()
    exif[0x010E] = secret.decode()
    exif.get_ifd(0x8825)[1] = "N"
    options: dict[str, Any] = {"exif": exif}
    if kind != "HEIC":
        options["icc_profile"] = secret
    data = sample_images.as_file(sample_images.drawing(5), kind, **options)
    assert secret in data
    derived = decode_in_sandbox(data, 400, 50)
    for jpeg in (derived.jpeg, derived.thumbnail):
        assert secret not in jpeg
        assert b"Exif" not in jpeg
        assert set(open_jpeg(jpeg).info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("WebP", {"method": 0}),
        ("AVIF", {"speed": 10}),
        ("HEIC", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("JPEG", {"progressive": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_memory_hungry_formats_are_decoded_up_to_40_megapixels(kind: str, options: dict[str, Any]) -> None:
    data = sample_images.as_file(Image.new("RGB", (8000, 5000), "teal"), kind, **options)
    derived = decode_in_sandbox(data, 400, 100)
    assert (derived.width, derived.height) == (8000, 5000)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_jpeg_of_120_megapixels_is_decoded_within_the_memory(options: dict[str, Any]) -> None:
    data = sample_images.as_file(Image.new("RGB", (12_000, 10_000), "teal"), **options)
    derived = decode_in_sandbox(data, 400, 100)
    assert (derived.width, derived.height) == (12_000, 10_000)
    assert open_jpeg(derived.jpeg).size == (400, 333)


def test_limits_of_jpegs_are_settings(decoder_settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder_settings.JPEG_MAX_PIXELS = 50_000_000
    large = Image.new("L", (10_000, 5_100), 90)
    assert error_code_of(sample_images.as_file(large)) == "image_too_large"
    assert error_code_of(sample_images.as_file(large, "PNG")) == "image_too_large"
    sandbox_pool.close()
    decoder_settings.JPEG_MAX_PIXELS = 51_000_000
    data = sample_images.as_file(large)
    assert decode_in_sandbox(data, 400, 100).width == 10_000
    monkeypatch.setattr(limits.JPEG, "max_bytes", len(data) - 1)
    assert error_code_of(data) == "image_too_large"


# --- crashes and hangs -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL], ids=lambda how: how.name)
def test_crashing_decoder_rejects_only_its_image(decoder_settings: Any, how: signal.Signals) -> None:
    decoder_settings.DECODERS = 1
    decode_in_sandbox(sample_images.jpeg(1), 400, 100)
    [child] = decoders()
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(error_code_of, bad_images.many_scans())
        while child.status() != psutil.STATUS_RUNNING or child.cpu_times().user < 0.3:
            time.sleep(0.01)
        child.send_signal(how)
        code = working.result()
    # Only a kernel without free memory sends SIGKILL.
    assert code == ("image_too_large" if how == signal.SIGKILL else "image_corrupt")
    assert decode_in_sandbox(sample_images.jpeg(1), 400, 100).width == 96
    assert decoders() != [child]


def test_decoder_that_died_while_idle_is_replaced(decoder_settings: Any) -> None:
    decoder_settings.DECODERS = 1
    decode_in_sandbox(sample_images.jpeg(1), 400, 100)
    [child] = decoders()
    child.kill()
    child.wait()
    assert decode_in_sandbox(sample_images.jpeg(2), 400, 100).width == 96


def test_threads_share_few_decoders_and_each_gets_its_own_image(decoder_settings: Any) -> None:
    decoder_settings.DECODERS = 2
    sizes = [(100 + step, 80) for step in range(60)]
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda size: decode_in_sandbox(sample_images.jpeg(size[0], size), 400, 100), sizes))
    assert [(derived.width, derived.height) for derived in found] == sizes
    assert len(decoders()) == 2


def test_forked_process_has_its_own_decoders(decoder_settings: Any) -> None:
    decode_in_sandbox(sample_images.jpeg(1), 400, 100)
    fork = multiprocessing.get_context("fork")
    results = fork.SimpleQueue()

    def decode_in_fork() -> None:
        results.put(decode_in_sandbox(sample_images.jpeg(2, (120, 90)), 400, 100).width)
        sandbox_pool.close()

    process = fork.Process(target=decode_in_fork)
    process.start()
    widths = {decode_in_sandbox(sample_images.jpeg(3), 400, 100).width for _ in range(5)}
    process.join(30)
    assert (process.exitcode, results.get(), widths) == (0, 120, {96})


def test_decoders_end_with_the_process_that_started_them() -> None:
    script = (
        "import os, signal, django; django.setup()\n"
        "from gpu.sandbox import pool; from tests.helpers import sample_images\n"
        "import psutil\n"
        "pool.decode_in_sandbox(sample_images.jpeg(1), 400, 100)\n"
        "print(psutil.Process().children()[0].pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while psutil.pid_exists(int(killed.stdout)):
        assert time.monotonic() < deadline, "the decoder outlived its parent"
        time.sleep(0.05)


def test_decoder_can_open_no_files_and_has_no_secrets(decoder_settings: Any) -> None:
    decoder_settings.DECODERS = 1
    decode_in_sandbox(sample_images.jpeg(1), 400, 100)
    [child] = decoders()
    limits = {what: child.rlimit(getattr(psutil, f"RLIMIT_{what}")) for what in ("CORE", "FSIZE", "NOFILE", "NPROC")}
    assert set(limits.values()) == {(0, 0)}
    assert child.rlimit(psutil.RLIMIT_AS)[0] < 600 * 2**20
    assert not {name for name in child.environ() if name.startswith(("DJANGO", "DATABASE", "CELERY"))}
    assert child.net_connections() == []
    modules = subprocess.run(
        [sys.executable, "-c", "import sys, gpu.sandbox.server; print(*sys.modules)"],
        cwd=REPO,
        capture_output=True,
        check=True,
    )
    assert not {b"django", b"torch", b"socket"} & set(modules.stdout.split())


def test_two_hanging_images_are_both_rejected_with_one_decoder(decoder_settings: Any) -> None:
    decoder_settings.DECODERS = 1
    decoder_settings.DECODER_SECONDS = 1
    hanging = bad_images.many_scans()
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(error_code_of, [hanging, hanging])) == ["image_corrupt"] * 2
