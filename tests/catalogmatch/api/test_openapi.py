"""The OpenAPI document and the API page, which loads nothing from other hosts."""

from __future__ import annotations

import re
from io import StringIO

import pytest
import yaml
from django.core.management import call_command
from django.test import Client

from tests.helpers.accounts import client_of, user_in


def test_openapi_document_is_valid_and_lists_every_endpoint() -> None:
    out = StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out)
    paths = yaml.safe_load(out.getvalue())["paths"]
    calls = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert calls == {
        ("GET", "/api/gpu/status"),
        ("GET", "/api/clip/info"),
        ("POST", "/api/products/upload"),
        ("GET", "/api/products"),
        ("GET", "/api/products/{id}"),
        ("PATCH", "/api/products/{id}"),
        ("DELETE", "/api/products/{id}"),
        ("POST", "/api/products/{id}/images"),
        ("POST", "/api/products/{id}/match"),
        ("GET", "/api/products/{id}/merge"),
        ("POST", "/api/products/{id}/merge"),
        ("DELETE", "/api/products/{id}/merge"),
        ("POST", "/api/match"),
        ("POST", "/api/search"),
        ("GET", "/api/matches"),
        ("GET", "/api/matches/{id}"),
        ("PATCH", "/api/matches/{id}"),
        ("GET", "/api/matches/{id}/explanation"),
        ("GET", "/api/policies"),
        ("PATCH", "/api/policies"),
        ("GET", "/api/cases"),
        ("GET", "/api/cases/{id}"),
        ("POST", "/api/cases/{id}/decision"),
        ("DELETE", "/api/cases/{id}/decision"),
        ("POST", "/api/cases/decisions"),
        ("GET", "/api/queue"),
    }


@pytest.mark.django_db
def test_openapi_document_is_served() -> None:
    response = client_of("viewer").get("/api/schema", HTTP_ACCEPT="application/vnd.oai.openapi+json")
    assert (response.status_code, response.json()["info"]["title"]) == (200, "CatalogMatch")


@pytest.mark.django_db
def test_api_page_loads_nothing_from_other_hosts(client: Client) -> None:
    client.force_login(user_in("viewer"))
    response = client.get("/api/docs")
    assert response.status_code == 200
    links = re.findall(r"""(?:src|href)=["']([^"']+)""", response.content.decode())
    assert links
    assert all(link.startswith("/") and not link.startswith("//") for link in links), links
    assert "https://" not in response.content.decode()


@pytest.mark.django_db
def test_api_page_names_every_call_and_how_to_get_a_token(client: Client) -> None:
    client.force_login(user_in("viewer"))
    page = client.get("/api/docs").content.decode()
    paths = client_of("viewer").get("/api/schema", HTTP_ACCEPT="application/vnd.oai.openapi+json").json()["paths"]
    assert [path for path in paths if f">{path}<" not in page] == []
    assert "/admin/tokens/" in page
    assert "Authorization: Token YOUR_TOKEN" in page
