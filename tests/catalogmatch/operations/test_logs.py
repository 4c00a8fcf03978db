"""Log lines: one JSON object each, with the id of their request and no secrets."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from catalogmatch.accounts.tokens import create_token
from catalogmatch.operations.logs import JsonFormatter, PlainFormatter, RequestIdFilter
from core.request_id import request_id
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import ProductImage
from products.queue import embed as embedding
from products.tasks import embed, notifications_suspended
from tests.helpers.accounts import client_of
from tests.helpers.sample_images import jpeg


class Lines:
    """The log lines of a test, in the format that an operator reads."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def parsed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def of(self, logger: str) -> list[dict[str, Any]]:
        return [line for line in self.parsed if line["logger"] == logger]


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    handler = logging.StreamHandler(lines.stream)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(RequestIdFilter())
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)


@pytest.mark.django_db
def test_request_is_logged_as_one_line_with_its_id(lines: Lines) -> None:
    response = client_of("viewer").get("/api/products?search=secret", HTTP_X_REQUEST_ID="from-the-proxy-1")
    assert response["X-Request-ID"] == "from-the-proxy-1"
    [line] = lines.of("catalogmatch.web.request_log")
    assert line["request_id"] == "from-the-proxy-1"
    assert (line["method"], line["path"], line["status"]) == ("GET", "/api/products", 200)
    assert line["user"] is not None
    assert "secret" not in lines.text


@pytest.mark.django_db
@pytest.mark.parametrize("given", ["", "short", "x" * 65, "has space in it", 'quote"injected', "line\nbreak-in-it"])
def test_invalid_request_id_is_replaced(given: str) -> None:
    response = Client().get("/healthz", HTTP_X_REQUEST_ID=given)
    assert re.fullmatch("[0-9a-f]{32}", response["X-Request-ID"])


@pytest.mark.django_db(transaction=True)
def test_request_id_follows_an_image_through_the_queue(lines: Lines) -> None:
    with notifications_suspended():  # the request does not embed the image itself
        client_of("uploader").post(
            "/api/products/upload?wait=0", {"image": io.BytesIO(jpeg(1))}, "multipart", HTTP_X_REQUEST_ID="upload-00001"
        )
    image = ProductImage.objects.get()
    assert image.request_id == "upload-00001"
    assert request_id.get() == "", "the worker knows of no request"
    embed()
    [line] = lines.of("products.queue.embed")
    assert line["request_ids"] == ["upload-00001"]


@pytest.mark.django_db
def test_log_line_of_a_failed_image_has_the_id_of_its_upload(lines: Lines) -> None:
    token = request_id.set("upload-00002")
    image = add_product([Upload(jpeg(1))]).images[0]
    request_id.reset(token)
    Path(image.file.path).write_bytes(b"no image")
    embedding.embed_pending()
    failures = [line for line in lines.of("products.queue.embed") if line["level"] == "WARNING"]
    assert {line["request_id"] for line in failures} == {"upload-00002"}


@pytest.mark.django_db
def test_logs_contain_no_token_password_or_image(lines: Lines) -> None:
    token, data = create_token("ada", "uploader"), jpeg(1)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    client.post("/api/products/upload", {"image": io.BytesIO(data), "sku": "A"}, "multipart")
    client.post("/api/products/upload", {"image": io.BytesIO(b"not an image")}, "multipart")
    Client().post("/admin/login/", {"username": "someone", "password": "hunter2-hunter2"})
    assert len(lines.of("catalogmatch.web.request_log")) == 3
    assert token not in lines.text
    assert "hunter2" not in lines.text
    assert repr(data[:20])[2:-1] not in lines.text


def test_traceback_stays_within_its_line(lines: Lines) -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("products").exception("went wrong")
    [line] = lines.of("products")
    assert "ValueError: first\nsecond" in line["traceback"]
    assert len(lines.text.splitlines()) == 1


def test_plain_lines_have_the_request_id_in_brackets() -> None:
    record = logging.LogRecord("products", logging.INFO, __file__, 1, "Embedded images %s", ([1],), None)
    token = request_id.set("r-1")
    RequestIdFilter().filter(record)
    request_id.reset(token)
    assert PlainFormatter().format(record).endswith("INFO products Embedded images [1] [r-1]")
