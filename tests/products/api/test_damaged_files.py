"""Real damaged and unusual files: accepted, or rejected with a documented code and without a trace."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from products.models import Product, ProductImage
from tests.helpers.accounts import client_of
from tests.helpers.bad_images import STATUS, VISIBLE
from tests.helpers.files import files_in

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.django_db,
]


def upload(folder: Path, every: int = 1) -> dict[str, tuple[int, str]]:
    """Upload every ``every``-th file of a folder. Return (status, code or "") by file name."""
    api = client_of("uploader")
    responses = {}
    for path in sorted(folder.iterdir())[::every]:
        file = SimpleUploadedFile(path.name, path.read_bytes())
        response = api.post("/api/products/upload?wait=0", {"image": file}, format="multipart")
        responses[path.name] = (response.status_code, response.json().get("code", ""))
    return responses


def test_every_bad_file_is_rejected_and_leaves_no_files_unless_it_is_visible(shared_data: Path, media: Path) -> None:
    responses = upload(shared_data / "images" / "bad")
    accepted = {name for name, response in responses.items() if response == (201, "")}
    assert accepted == VISIBLE
    rejected = {name: response for name, response in responses.items() if name not in VISIBLE}
    assert {name: found for name, found in rejected.items() if STATUS.get(found[1]) != found[0]} == {}
    assert len(responses) == 203
    assert (Product.objects.count(), len(files_in(media))) == (len(VISIBLE), 2 * len(VISIBLE))


def test_odd_file_is_accepted_or_rejected_by_a_documented_rule(shared_data: Path, media: Path) -> None:
    responses = upload(shared_data / "images" / "odd", every=4)
    rules = {(413, "image_too_large"), (422, "image_too_small"), (422, "image_aspect")}
    wrong = {name: response for name, response in responses.items() if response not in {(201, ""), *rules}}
    assert wrong == {}
    taken = Counter(responses.values())[(201, "")]
    assert taken > len(responses) / 2
    assert ProductImage.objects.count() == taken
    assert len(files_in(media)) == 2 * taken
