"""Access to every API endpoint, without a sign-in and for each of the four roles."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from rest_framework.test import APIClient

from catalogmatch.accounts.roles import ROLES, give_role
from tests.helpers.accounts import client_of, user_in

pytestmark = pytest.mark.django_db

EVERYBODY = {"viewer", "uploader", "reviewer", "manager"}
UPLOADERS = {"uploader", "manager"}
REVIEWERS = {"reviewer", "manager"}

# The calls name missing objects or send empty forms: an allowed call returns 2xx, 400 or 404.
CALLS = [
    ("GET", "/api/gpu/status", EVERYBODY),
    ("GET", "/api/clip/info", EVERYBODY),
    ("POST", "/api/products/upload", UPLOADERS),
    ("GET", "/api/products", EVERYBODY),
    ("GET", "/api/products/1", EVERYBODY),
    ("PATCH", "/api/products/1", UPLOADERS),
    ("DELETE", "/api/products/1", UPLOADERS),
    ("POST", "/api/products/1/images", UPLOADERS),
    ("POST", "/api/products/1/match", UPLOADERS),
    ("POST", "/api/match", EVERYBODY),
    ("GET", "/api/matches", EVERYBODY),
    ("GET", "/api/matches/1", EVERYBODY),
    ("PATCH", "/api/matches/1", REVIEWERS),
    ("GET", "/api/queue", EVERYBODY),
    ("GET", "/api/schema", EVERYBODY),
    ("GET", "/media/pictures/00/00000000000000000000000000000000.jpg", EVERYBODY),
]


def call(client: APIClient, method: str, path: str) -> int:
    multipart = path.endswith(("/upload", "/images")) or path == "/api/match"
    status = client.generic(
        method, path, content_type="multipart/form-data; boundary=x" if multipart else "application/json"
    ).status_code
    assert status in {200, 400, 401, 403, 404}
    return status


@pytest.mark.parametrize(("method", "path", "allowed"), CALLS, ids=[f"{method} {path}" for method, path, _ in CALLS])
def test_endpoint_is_open_only_to_its_roles(method: str, path: str, allowed: set[str]) -> None:
    assert call(client_of(None), method, path) == 401
    may = {role for role in ROLES if call(client_of(role), method, path) not in {401, 403}}
    assert may == allowed


def test_viewer_may_match_a_product_without_saving() -> None:
    viewer = client_of("viewer")
    refused = viewer.post("/api/products/1/match", {"save": True})
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert viewer.post("/api/products/1/match", {"save": False}).status_code == 404


@pytest.mark.parametrize("credentials", [{}, {"HTTP_AUTHORIZATION": "Token wrong"}, {"HTTP_AUTHORIZATION": "Token"}])
def test_unauthenticated_client_gets_401(credentials: dict[str, str]) -> None:
    response = APIClient().get("/api/products", **credentials)  # type: ignore[arg-type]
    assert (response.status_code, response["Content-Type"]) == (401, "application/problem+json")
    assert response.json()["code"] == "not_authenticated"
    assert response["WWW-Authenticate"] == "Token"


def test_session_may_call_the_api_but_not_from_another_site() -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(user_in("uploader"))
    assert client.get("/api/products").status_code == 200
    forged = client.delete("/api/products/1")
    assert (forged.status_code, forged.json()["code"]) == (403, "permission_denied")


def test_user_without_a_role_may_do_nothing() -> None:
    client = APIClient()
    client.force_authenticate(User.objects.create_user("nobody"))
    assert client.get("/api/products").status_code == 403


def test_user_has_one_role_at_a_time() -> None:
    user = user_in("uploader")
    give_role(user, "reviewer")
    assert list(user.groups.values_list("name", flat=True)) == ["reviewer"]
    with pytest.raises(KeyError):
        give_role(user, "owner")
    assert list(user.groups.values_list("name", flat=True)) == ["reviewer"]


def test_role_has_exactly_its_permissions() -> None:
    for role, names in ROLES.items():
        permissions = Group.objects.get(name=role).permissions.select_related("content_type")
        assert {f"{one.content_type.app_label}.{one.codename}" for one in permissions} == names
