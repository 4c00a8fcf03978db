"""Size limits of requests, and the files that are stored of an upload."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.test import Client
from PIL import Image

from gpu.imaging import limits
from gpu.imaging.errors import ImageProcessingError
from products.images import intake, originals
from products.images.cleaning import Upload
from products.models import Product, ProductImage
from tests.helpers.accounts import client_of, user_in
from tests.helpers.files import files_in
from tests.helpers.sample_images import as_file, drawing, jpeg, with_orientation

# --- size limits -----------------------------------------------------------------------------------


def post(path: str, body: io.BytesIO, length: int, client: Client | None = None, **more: Any) -> Any:
    environ = {
        "wsgi.input": body,
        "CONTENT_LENGTH": str(length),
        "CONTENT_TYPE": "multipart/form-data; boundary=x",
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
    }
    return (client or Client()).request(**environ | more)


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/products/upload", "/api/match", "/admin/login/"])
def test_body_of_a_gigabyte_is_rejected_unread(path: str) -> None:
    body = io.BytesIO(b"x" * 1000)
    response = post(path, body, 2**30)
    assert (response.status_code, response.json()["code"]) == (413, "image_too_large")
    assert response["Content-Type"] == "application/problem+json"
    assert body.tell() == 0


@pytest.mark.django_db
def test_anonymous_client_cannot_send_files_to_a_page() -> None:
    body = io.BytesIO(b"x" * 1000)
    response = post("/admin/login/", body, 10 * 2**20)
    assert (response.status_code, body.tell()) == (413, 0)


@pytest.mark.django_db
def test_body_of_an_unauthenticated_api_call_is_not_read() -> None:
    body = io.BytesIO(b"x" * 1000)
    assert post("/api/products/upload", body, 100 * 2**20).status_code == 401
    assert body.tell() == 0


@pytest.mark.django_db
def test_only_forms_with_files_may_be_large() -> None:
    body = io.BytesIO(b"[" * 1000)
    client = Client()
    client.force_login(user_in("manager"))
    response = post("/api/match", body, 50 * 2**20, client, CONTENT_TYPE="application/json")
    assert (response.status_code, body.tell()) == (413, 0)


@pytest.mark.django_db
def test_chunked_body_without_length_is_rejected() -> None:
    response = post("/api/match", io.BytesIO(b""), 0, HTTP_TRANSFER_ENCODING="chunked")
    assert (response.status_code, response.json()["code"]) == (411, "length_required")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.django_db
def test_too_large_file_is_discarded_during_the_upload(
    media: Path, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(limits.JPEG, "max_bytes", 30 * 2**20)
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    written = []

    class Watched(TemporaryUploadedFile):
        def close(self) -> None:
            if self.file is not None and not self.file.closed:
                written.append(self.file.seek(0, os.SEEK_END))
            super().close()

    limit = limits.JPEG.max_bytes if kind == "JPEG" else limits.MAX_BYTES
    files = [
        SimpleUploadedFile("large", as_file(drawing(1), kind) + bytes(3 * limit)),
        SimpleUploadedFile("small.jpg", jpeg(2)),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.core.files.uploadhandler.TemporaryUploadedFile", Watched)
        response: Any = client_of("uploader").post("/api/products/upload", {"image": files}, format="multipart")
    assert (response.status_code, response.json()["code"]) == (413, "image_too_large")
    assert written
    assert max(written) < limit + 2**20
    assert files_in(media) == []


# --- stored files ----------------------------------------------------------------------------------


@pytest.fixture
def originals_folder(settings: Any, tmp_path: Path) -> Path:
    settings.KEEP_ORIGINALS = True
    settings.ORIGINALS_ROOT = tmp_path / "originals"
    return tmp_path / "originals"


@pytest.mark.django_db(transaction=True)
def test_original_is_stored_outside_media_and_deleted_with_its_image(originals_folder: Path) -> None:
    data = with_orientation(drawing(1), 6)
    image = intake.add_product([Upload(data, "../../etc/passwd.jpg")]).images[0]
    assert originals.original_path(str(image.file.name)).read_bytes() == data
    assert [name.partition("/")[2] for name in files_in(originals_folder)] == [Path(str(image.file.name)).stem]
    client = client_of("manager")
    for path in (files_in(originals_folder)[0], f"originals/{files_in(originals_folder)[0]}"):
        assert client.get(f"/media/{path}").status_code == 404
    Product.objects.all().delete()
    assert files_in(originals_folder) == []


@pytest.mark.django_db(transaction=True)
def test_original_of_a_bad_image_or_without_the_setting_is_not_kept(originals_folder: Path, settings: Any) -> None:
    with pytest.raises(ImageProcessingError):
        intake.add_product([Upload(jpeg(1)), Upload(b"no image")])
    settings.KEEP_ORIGINALS = False
    intake.add_product([Upload(jpeg(2))])
    assert files_in(originals_folder) == []


@pytest.mark.django_db(transaction=True)
def test_stored_image_is_a_jpeg_without_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret"
    data = as_file(drawing(1), "TIFF", exif=exif)
    stored = ProductImage.objects.get(pk=intake.add_product([Upload(data)]).images[0].pk)
    content = Path(stored.file.path).read_bytes()
    assert content.startswith(b"\xff\xd8\xff")
    assert b"a secret" not in content
    with Image.open(stored.file.path) as opened:
        assert not opened.getexif()
