"""Uploads and changes of one product at the same time, through threads and through processes of the web server."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
from rest_framework.test import APIClient

from products import validation
from products.images import storage
from products.models import Product
from tests.helpers.accounts import client_of
from tests.helpers.files import files_in
from tests.helpers.processes import Response, Stack
from tests.helpers.sample_images import jpeg
from tests.helpers.threads import run_concurrently

pytestmark = pytest.mark.django_db(transaction=True)

AT_ONCE = 8


@pytest.fixture
def writing_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all uploads look for what exists before the first of them writes anything."""
    barrier, stored_files = Barrier(AT_ONCE), storage.stored_files

    @contextmanager
    def waiting(*arguments: Any) -> Iterator[dict[str, str]]:
        try:
            barrier.wait(20)
        except BrokenBarrierError:
            pytest.fail("not every upload got as far as writing its files")
        with stored_files(*arguments) as names:
            yield names

    monkeypatch.setattr(storage, "stored_files", waiting)


def upload(client: APIClient, path: str = "/api/products/upload", **fields: Any) -> Any:
    images = [io.BytesIO(jpeg(seed)) for seed in fields.pop("seeds", [1])]
    return client.post(f"{path}?wait=0", {"image": images, **fields}, "multipart")


def at_once(function: Callable[..., Any], *arguments: dict[str, Any]) -> list[Any]:
    """Call the function with each of these arguments at the same time, each with a client of its own."""
    clients = [client_of("uploader") for _ in arguments]
    pairs = zip(clients, arguments, strict=True)
    return run_concurrently(*(partial(function, client, **fields) for client, fields in pairs))


@pytest.mark.usefixtures("writing_at_once")
def test_simultaneous_uploads_with_unless_known_are_one_product(media: Path) -> None:
    responses = at_once(upload, *[{"unless_known": "true"}] * AT_ONCE)
    assert Counter(response.status_code for response in responses) == {201: 1, 200: AT_ONCE - 1}
    product = Product.objects.get()
    assert {response.data["product_id"] for response in responses} == {product.pk}
    image = product.images.get()
    assert files_in(media) == sorted([str(image.file.name), image.thumbnail_name])


@pytest.mark.usefixtures("writing_at_once")
def test_simultaneous_uploads_with_unless_known_of_overlapping_images_leave_no_duplicate() -> None:
    # An upload of one image may be known from a larger one, so each pair must be decided one after the other.
    seeds = [[1], [1, 2], [2, 3], [3]] * (AT_ONCE // 4)
    responses = at_once(upload, *[{"seeds": one, "unless_known": "true"} for one in seeds])
    assert {response.status_code for response in responses} <= {200, 201}
    sets = [frozenset(product.images.values_list("sha256", flat=True)) for product in Product.objects.order_by("pk")]
    for number, images in enumerate(sets):
        assert not any(images <= earlier for earlier in sets[:number]), "an earlier product has all its images"


@pytest.mark.usefixtures("writing_at_once")
def test_simultaneous_uploads_of_one_sku_are_one_product() -> None:
    responses = at_once(upload, *[{"sku": "M-1", "seeds": [number % 2]} for number in range(AT_ONCE)])
    product = Product.objects.get()
    statuses = Counter(response.status_code for response in responses)
    assert statuses == {201: 1, 200: AT_ONCE // 2 - 1, 409: AT_ONCE // 2}
    assert {response.data["product_id"] for response in responses if response.status_code < 300} == {product.pk}


@pytest.mark.usefixtures("writing_at_once")
def test_image_added_several_times_at_once_is_stored_once(media: Path) -> None:
    product = Product.objects.create(sku="M-1")
    path = f"/api/products/{product.pk}/images"
    responses = at_once(upload, *[{"path": path, "seeds": [number % 2]} for number in range(AT_ONCE)])
    assert Counter(response.status_code for response in responses) == {201: 2, 200: AT_ONCE - 2}
    assert sorted(product.images.values_list("position", flat=True)) == [0, 1]
    assert len(files_in(media)) == 2 * product.images.count()


def test_one_of_several_simultaneous_changes_gets_a_sku() -> None:
    products = [Product.objects.create(name=str(number)) for number in range(AT_ONCE)]

    def change(client: APIClient, pk: int) -> int:
        return client.patch(f"/api/products/{pk}", {"sku": "M-1"}).status_code

    statuses = at_once(change, *[{"pk": product.pk} for product in products])
    assert Counter(statuses) == {200: 1, 409: AT_ONCE - 1}


def test_sku_is_given_once_by_simultaneous_uploads_and_changes() -> None:
    product = Product.objects.create(name="without SKU")

    def change_or_upload(client: APIClient, seed: int) -> int:
        if seed:
            return int(upload(client, sku="M-1", seeds=[seed]).status_code)
        return client.patch(f"/api/products/{product.pk}", {"sku": "M-1"}).status_code

    statuses = at_once(change_or_upload, *[{"seed": number} for number in range(AT_ONCE)])
    assert Product.objects.filter(sku="M-1").count() == 1
    assert set(statuses) <= {200, 201, 409}


def test_product_that_became_historical_at_the_same_moment_is_matched_when_it_is_new_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    product, validate = Product.objects.create(), validation.validate_fields

    def validate_late(fields: Any) -> None:
        Product.objects.filter(pk=product.pk).update(is_historical=True)  # by another request
        validate(fields)

    monkeypatch.setattr("products.images.intake.validate_fields", validate_late)
    assert client_of("uploader").patch(f"/api/products/{product.pk}", {"is_historical": False}).status_code == 200
    product.refresh_from_db()
    assert (product.is_historical, product.unmatched_since is not None) == (False, True)


def test_change_of_a_product_that_is_deleted_at_the_same_moment_is_a_404(monkeypatch: pytest.MonkeyPatch) -> None:
    product, validate = Product.objects.create(), validation.validate_fields

    def validate_late(fields: Any) -> None:
        Product.objects.filter(pk=product.pk).delete()
        validate(fields)

    monkeypatch.setattr("products.images.intake.validate_fields", validate_late)
    response = client_of("uploader").patch(f"/api/products/{product.pk}", {"name": "changed"})
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.redis
def test_fifty_uploads_to_two_web_processes_are_one_product(tmp_path: Path) -> None:
    with Stack(tmp_path, CATALOGMATCH_DECODERS="1") as stack:
        stack.stop(stack.web)  # type: ignore[arg-type]  # it runs
        stack.start_web(WEB_CONCURRENCY="2")

        def send(_: int) -> Response:
            return stack.upload([jpeg(1)], unless_known="true")

        with ThreadPoolExecutor(50) as pool:
            responses = list(pool.map(send, range(50)))
        assert Counter(response.status for response in responses) == {201: 1, 200: 49}
        assert stack.call("GET", "/api/products").body["count"] == 1
        assert len(files_in(stack.media)) == 2
