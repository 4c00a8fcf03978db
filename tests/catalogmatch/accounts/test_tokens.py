"""API tokens: scope, headers, the page of their owner, and everything that ends them."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import DatabaseError
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from catalogmatch.accounts import tokens
from catalogmatch.accounts.models import Token
from catalogmatch.accounts.roles import ROLES, give_role
from catalogmatch.accounts.tokens import issue_token
from products.models import Product
from tests.helpers.accounts import user_in
from tests.helpers.rows import browser_of, make_product

pytestmark = pytest.mark.django_db

PAGE = "/admin/tokens/"
PASSWORD = "long-and-odd-1"


def call(key: str, method: str = "GET", path: str = "/api/queue", scheme: str = "Token") -> int:
    return int(APIClient().generic(method, path, headers={"Authorization": f"{scheme} {key}"}).status_code)


def user_with_password(role: str = "viewer") -> User:
    user = user_in(role)
    user.set_password(PASSWORD)
    user.save()
    return user


# --- headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Token", "token", "Bearer", "bearer", "BEARER", "Token "])
def test_token_and_bearer_prefixes_work_in_any_case(scheme: str) -> None:
    assert call(issue_token(user_in("viewer")), scheme=scheme) == 200


@pytest.mark.parametrize(
    "header",
    [
        "Token", "Bearer", "Token ", "Bearer  ", "Token a b", "Token \xe4\xf6\xfc", "Bearer \xff\xfe", "\xff", "",
        "Token\xa0x", "Token ключ", "Bearer \ud83d", "Token \x00", "Basic eDp5", "Basic \xff", "Digest x",
        "Token " + "x" * 9000,         "Bearer " + "\u0661" * 64, "Token,", "Token \u2028x",
    ],
)  # fmt: skip
def test_malformed_header_returns_401(header: str) -> None:
    issue_token(user_in("viewer"))
    for path in ("/api/queue", "/api/matches?page=x", "/media/pictures/00/" + 32 * "0" + ".jpg"):
        response = APIClient(raise_request_exception=False).get(path, HTTP_AUTHORIZATION=header)
        assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")


def test_stored_digest_or_part_of_a_token_is_rejected() -> None:
    key = issue_token(user_in("viewer"))
    stored = Token.objects.get()
    assert (stored.algorithm, stored.key_start) == ("sha256", key[:8])
    for wrong in (stored.digest, key[:8], key[:-1], key.upper() + "0", f"{key}0", f'"{key}"'):
        assert call(wrong) == 401


def test_openapi_document_names_both_prefixes() -> None:
    key = issue_token(user_in("viewer"))
    document = APIClient().get("/api/schema?format=json", headers={"Authorization": f"Bearer {key}"}).json()
    schemes = document["components"]["securitySchemes"]
    assert schemes["bearerToken"] == {"type": "http", "scheme": "bearer"}
    assert (schemes["apiToken"]["type"], schemes["apiToken"]["name"]) == ("apiKey", "Authorization")
    for methods in document["paths"].values():
        for operation in methods.values():
            assert {name for entry in operation["security"] for name in entry} >= {"bearerToken", "apiToken"}


# --- scope ---------------------------------------------------------------------------------------


def test_scope_limits_every_user_including_superusers() -> None:
    product = make_product()
    superuser = User.objects.create_superuser("boss")
    for owner in (user_in("manager"), superuser):
        key = issue_token(owner, scope="viewer")
        assert call(key) == 200
        assert call(key, "DELETE", f"/api/products/{product.pk}") == 403
        assert call(key, "POST", "/api/products/upload") == 403
        assert call(key, "PATCH", "/api/matches/1") == 403
        assert call(key, "POST", f"/api/products/{product.pk}/match") == 403  # it would save matches
    assert call(issue_token(superuser), "DELETE", f"/api/products/{product.pk}") == 204


def test_scope_gives_no_permission_that_the_user_lacks() -> None:
    product = make_product()
    for scope in ROLES:
        assert call(issue_token(user_in("viewer"), scope=scope), "DELETE", f"/api/products/{product.pk}") == 403
    without_role = issue_token(User.objects.create_user("nobody"), scope="manager")
    assert call(without_role) == 403


def test_scope_that_no_longer_exists_allows_nothing() -> None:
    key = issue_token(user_in("manager"))
    Token.objects.update(scope="owner")
    assert call(key) == 403


def test_change_by_a_scoped_token_is_recorded_for_its_user() -> None:
    product = make_product(name="old")
    client = APIClient()
    key = issue_token(user_in("manager"), scope="uploader")
    response = client.patch(f"/api/products/{product.pk}", {"name": "new"}, headers={"Authorization": f"Bearer {key}"})
    assert response.status_code == 200
    assert Product.history.latest("history_id").history_user == user_in("manager")


# --- last use ------------------------------------------------------------------------------------


def test_last_use_is_stored_at_most_once_a_minute() -> None:
    key = issue_token(user_in("viewer"))
    assert Token.objects.get().last_used_at is None
    call(key)
    first = Token.objects.get().last_used_at
    assert first is not None
    assert timezone.now() - first < timedelta(seconds=10)
    call(key)
    assert Token.objects.get().last_used_at == first
    Token.objects.update(last_used_at=first - timedelta(seconds=61))
    call(key)
    assert Token.objects.get().last_used_at > first  # type: ignore[operator]


def test_request_succeeds_although_the_last_use_cannot_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise DatabaseError("database or disk is full")

    monkeypatch.setattr(tokens, "_store_use", full)
    monkeypatch.setattr(tokens, "_failed_at", float("-inf"))  # restored at the end, so that others store again
    assert call(issue_token(user_in("viewer"))) == 200


# --- what ends tokens and sessions ---------------------------------------------------------------


def session_of(user: User) -> Client:
    browser = Client()
    browser.force_login(User.objects.get(pk=user.pk))
    assert browser.get("/admin/").status_code == 200
    return browser


def is_signed_in(browser: Client) -> bool:
    return browser.get("/admin/").status_code == 200


def test_password_change_ends_tokens_and_all_other_sessions() -> None:
    user = user_with_password()
    key, browser, other = issue_token(user), session_of(user), session_of(user)
    form = {"old_password": PASSWORD, "new_password1": "quite-other-2", "new_password2": "quite-other-2"}
    assert browser.post("/admin/password_change/", form).status_code == 302
    assert call(key) == 401
    assert (is_signed_in(browser), is_signed_in(other)) == (True, False)


@pytest.mark.parametrize("how", ["reset", "unusable", "code", "hash"])
def test_password_reset_ends_tokens_and_sessions(how: str) -> None:
    user = user_with_password()
    key, browser, colleague = issue_token(user), session_of(user), issue_token(user_in("uploader"))
    if how == "reset":
        form = {"usable_password": "true", "password1": "quite-other-2", "password2": "quite-other-2"}
        assert browser_of("manager").post(f"/admin/auth/user/{user.pk}/password/", form).status_code == 302
    elif how == "unusable":
        form = {"usable_password": "false", "unset-password": "1"}
        assert browser_of("manager").post(f"/admin/auth/user/{user.pk}/password/", form).status_code == 302
    elif how == "code":
        user.set_password("quite-other-2")
        user.save(update_fields=["password"])
    else:
        user.password = PBKDF2PasswordHasher().encode("quite-other-2", "salt" * 6)
        user.save()
    assert call(key) == 401
    assert not is_signed_in(browser)
    assert call(colleague) == 200


def test_sign_in_that_only_upgrades_the_hash_keeps_the_tokens() -> None:
    user = user_with_password()
    key = issue_token(user)
    User.objects.filter(pk=user.pk).update(password=PBKDF2PasswordHasher().encode(PASSWORD, "s" * 22, 1000))
    old = User.objects.get(pk=user.pk).password
    assert Client().post("/admin/login/", {"username": user.username, "password": PASSWORD}).status_code == 302
    assert User.objects.get(pk=user.pk).password != old
    assert call(key) == 200


def test_tokens_of_a_deactivated_user_stay_invalid_after_reactivation() -> None:
    user = user_with_password()
    key, browser = issue_token(user), session_of(user)
    form = {"username": user.username, "is_staff": "on", "groups": [group.pk for group in user.groups.all()]}
    page = f"/admin/auth/user/{user.pk}/change/"
    assert browser_of("manager").post(page, form).status_code == 302
    assert call(key) == 401
    assert browser_of("manager").post(page, form | {"is_active": "on"}).status_code == 302
    assert call(key) == 401
    assert not is_signed_in(browser)


def test_sign_out_everywhere_ends_only_the_users_own_sessions_and_tokens() -> None:
    user, other = user_with_password("viewer"), user_in("manager")
    keys, browsers = [issue_token(user), issue_token(other)], [session_of(user), session_of(user), session_of(other)]
    page = browsers[0].get(PAGE).content.decode()
    [address] = re.findall(r'action="(/admin/sign-out/\d+/)"', page)
    assert browsers[0].post(address).headers["Location"] == "/admin/login/"
    assert [call(key) for key in keys] == [401, 200]
    assert [is_signed_in(browser) for browser in browsers] == [False, False, True]


def test_deleting_a_user_deletes_the_tokens() -> None:
    user = user_in("viewer")
    key = issue_token(user)
    user.delete()
    assert call(key) == 401


def test_other_changes_of_a_user_keep_tokens_and_sessions() -> None:
    user = user_with_password()
    key, browser = issue_token(user), session_of(user)
    user.first_name = "Ada"
    user.save()
    give_role(user, "uploader")
    user.save(update_fields=["last_login"])
    assert call(key) == 200
    assert is_signed_in(browser)


# --- the page ------------------------------------------------------------------------------------


def test_page_creates_a_token_and_shows_it_once() -> None:
    browser = browser_of("uploader")
    response = browser.post(PAGE, {"name": "scanner", "days": "30", "scope": "viewer"})
    assert "no-store" in response["Cache-Control"]
    [key] = re.findall(r'<code id="token">([0-9a-f]{64})</code>', response.content.decode())
    stored = Token.objects.get()
    assert (stored.user, stored.name, stored.scope) == (user_in("uploader"), "scanner", "viewer")
    assert abs(stored.expires_at - timezone.now() - timedelta(days=30)) < timedelta(minutes=1)  # type: ignore[operator]
    assert call(key) == 200
    page = browser.get(PAGE).content.decode()
    assert key not in page
    for text in ("scanner", key[:8], "viewer", timezone.now().strftime("%H:")):
        assert text in page
    assert browser.post(f"{PAGE}{stored.pk}/revoke/").status_code == 302
    assert call(key) == 401
    assert "revoked" in browser.get(PAGE).content.decode()


@pytest.mark.parametrize(
    "form",
    [
        {"name": ""}, {"name": "x" * 101}, {"name": "x", "scope": "owner"}, {"name": "x", "days": "0"},
        {"name": "x", "days": "36500"}, {"name": "x", "days": "-1"}, {"name": "x", "days": "NaN"}, {"name": "a\x00b"},
    ],
)  # fmt: skip
def test_page_rejects_invalid_tokens(form: dict[str, str]) -> None:
    assert browser_of("viewer").post(PAGE, form).status_code == 422
    assert not Token.objects.exists()


def test_page_creates_at_most_a_hundred_active_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_ACTIVE_TOKENS", 2)
    browser = browser_of("viewer")
    assert [browser.post(PAGE, {"name": "x"}).status_code for _ in range(3)] == [200, 200, 422]
    Token.objects.filter(pk=Token.objects.latest("id").pk).update(revoked_at=timezone.now())
    assert browser.post(PAGE, {"name": "x"}).status_code == 200


def test_tokens_that_ended_long_ago_are_deleted() -> None:
    user = user_in("viewer")
    long_ago = timezone.now() - timedelta(days=91)
    for field in ("revoked_at", "expires_at"):
        issue_token(user)
        Token.objects.filter(pk=Token.objects.latest("id").pk).update(**{field: long_ago})
    issue_token(user)
    assert Token.objects.count() == 1


def test_user_without_manage_permission_cannot_see_or_revoke_tokens_of_others() -> None:
    owner = user_in("uploader")
    key = issue_token(owner, name="secret scanner")
    for role in ("viewer", "reviewer"):
        browser = browser_of(role)
        assert browser.get(f"{PAGE}of/{owner.pk}/").status_code == 403
        assert browser.post(f"{PAGE}{Token.objects.get().pk}/revoke/").status_code == 403
        assert "secret scanner" not in browser.get(PAGE).content.decode()
    assert call(key) == 200
    manager = browser_of("manager")
    assert "secret scanner" in manager.get(f"{PAGE}of/{owner.pk}/").content.decode()
    assert manager.post(f"{PAGE}{Token.objects.get().pk}/revoke/").status_code == 302
    assert call(key) == 401


@pytest.mark.parametrize("number", [0, 2**63, 2**64, 10**30])
def test_unknown_ids_return_404(number: int) -> None:
    browser = browser_of("manager")
    assert browser.get(f"{PAGE}of/{number}/").status_code == 404
    assert browser.post(f"{PAGE}{number}/revoke/").status_code == 404
    assert browser.post(f"/admin/sign-out/{number}/").status_code == 404


def test_revoking_counts_only_tokens_that_worked(capsys: pytest.CaptureFixture[str]) -> None:
    issue_token(user_in("viewer"))
    call_command("revoke_tokens", "viewer")
    call_command("revoke_tokens", "viewer")
    assert capsys.readouterr().out == "Revoked 1 tokens of viewer.\nRevoked 0 tokens of viewer.\n"
