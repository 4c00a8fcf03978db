"""Bad images in API uploads: each is rejected with a code or is valid, and rejected ones leave no files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from gpu.sandbox import pool, server
from products.models import ProductImage
from tests.helpers import bad_images
from tests.helpers.accounts import client_of
from tests.helpers.bad_images import STATUS
from tests.helpers.files import files_in
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.django_db(transaction=True)


def responses(files: list[bytes]) -> list[tuple[int, str]]:
    """Upload each file. Return status and error code, which is empty for an accepted file."""
    api = client_of("uploader")
    found = []
    for data in files:
        form = {"image": SimpleUploadedFile("image.jpg", data)}
        response: Any = api.post("/api/products/upload?wait=0", form, format="multipart")
        found.append((response.status_code, response.json().get("code", "")))
    return found


def is_rejected(response: tuple[int, str]) -> bool:
    status, code = response
    return code in STATUS and status == STATUS[code]


def peak_memory_of_decoders() -> list[int]:
    """Return the peak address space of each decoder process above its idle size, in bytes."""
    peaks = []
    for child in psutil.Process().children():
        if "gpu.sandbox.server" in child.cmdline():
            fields = Path(f"/proc/{child.pid}/status").read_text().split()
            peak, size = (int(fields[fields.index(name) + 1]) for name in ("VmPeak:", "VmSize:"))
            peaks.append(1024 * (peak - size))
    return peaks


def test_bad_images_are_rejected_with_a_code_and_leave_no_files(media: Path) -> None:
    bad = list(bad_images.bad_images())
    found = responses([image.data for image in bad])
    surprising = {
        image.name: response
        for image, response in zip(bad, found, strict=True)
        if not is_rejected(response) and not (image.harmless and response[0] == 201)
    }
    assert len(bad) > 200
    assert surprising == {}
    accepted = [status for status, _ in found].count(201)
    assert 0 < accepted < len(bad) / 3
    assert ProductImage.objects.count() == accepted
    assert len(files_in(media)) == 2 * accepted
    peaks = peak_memory_of_decoders()
    assert peaks
    assert max(peaks) <= server.MEMORY_BYTES


def test_image_that_decodes_too_long_is_rejected_and_the_next_one_accepted(settings: Any) -> None:
    settings.DECODER_SECONDS = 1
    pool.close()
    try:
        assert responses([bad_images.many_scans(), jpeg(1)]) == [(422, "image_corrupt"), (201, "")]
    finally:
        pool.close()


@pytest.mark.shared_data
def test_every_bad_image_of_the_corpora_is_rejected(shared_data: Path, media: Path) -> None:
    paths = sorted((shared_data / "images" / "bad").iterdir())
    found = responses([path.read_bytes() for path in paths])
    accepted = [path.name for path, response in zip(paths, found, strict=True) if not is_rejected(response)]
    assert accepted == sorted(bad_images.VISIBLE)
    assert len(files_in(media)) == 2 * len(accepted)
    assert len(paths) == 203


@pytest.mark.shared_data
def test_odd_images_are_accepted_unless_they_are_too_small(shared_data: Path) -> None:
    paths = sorted((shared_data / "images" / "odd").iterdir())[::8]
    found = responses([path.read_bytes() for path in paths])
    expected = {(201, ""), (422, "image_too_small")}
    assert {path.name: response for path, response in zip(paths, found, strict=True) if response not in expected} == {}
