"""No member of a group of its own gets, gives or takes more than it has, by any page, call or hidden field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.test import Client
from pytest_django import Settings

from catalogmatch.accounts.models import Token
from catalogmatch.accounts.roles import ROLES, give_role
from catalogmatch.accounts.tokens import issue_token
from matching.models import Match
from products.models import ProductImage
from tests.helpers.accounts import client_of
from tests.helpers.rows import browser_of, make_case, make_product, save_product

USERS, GROUPS = "/admin/auth/user/", "/admin/auth/group/"
ALL_OF_AUTH = [
    f"auth.{verb}_{kind}" for verb in ("view", "add", "change", "delete") for kind in ("user", "group", "permission")
]
GROUPS_OF_ACTORS = {
    "adds": ["auth.add_user"],
    "changes without seeing": ["auth.change_user"],
    "deletes": ["auth.view_user", "auth.change_user", "auth.delete_user"],
    "reviews and manages": [*ALL_OF_AUTH, *ROLES["reviewer"]],
}
VARIANTS = [
    "?_popup=1",
    "?_to_field=id",
    "?_popup=1&_to_field=username",
    "?_to_field=password",
    "?_changelist_filters=o%3D1",
]
BUTTONS = ["_save", "_continue", "_addanother", "_saveasnew", "_popup"]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _cheap_passwords(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def permissions(names: list[str]) -> list[Permission]:
    return [
        Permission.objects.get(content_type__app_label=name.split(".")[0], codename=name.split(".")[1])
        for name in names
    ]


def member_of(group_name: str) -> User:
    """Return a user in a new group with the permissions of GROUPS_OF_ACTORS."""
    group = Group.objects.create(name=group_name)
    group.permissions.set(permissions(GROUPS_OF_ACTORS[group_name]))
    actor = User.objects.create_user("actor", password="long-and-odd-1", is_staff=True)
    actor.groups.add(group)
    return actor


def create_accounts() -> list[User]:
    """Create accounts with more and fewer permissions than the actors, each with a token and a session."""
    plain = User.objects.create_user("plain")
    switched_off = User.objects.create_user("off-manager", is_active=False)
    give_role(switched_off, "manager")
    extra = User.objects.create_user("extra", is_staff=True)
    extra.user_permissions.set(permissions(["matching.delete_match"]))
    root = User.objects.create_superuser("root")
    accounts = [plain, switched_off, extra, root]
    for user in accounts:
        issue_token(user)
        Client().force_login(user)
    return accounts


def held_by(user: User) -> frozenset[int]:
    """Return the permissions of an account, whether it is active or not."""
    own = Permission.objects.filter(user=user) | Permission.objects.filter(group__user=user)
    return frozenset((Permission.objects if user.is_superuser else own).values_list("pk", flat=True))


def state_of(user: User) -> object:
    fields = User.objects.filter(pk=user.pk).values().first()
    tokens = list(Token.objects.filter(user=user, revoked_at=None).values_list("pk", flat=True))
    return fields, held_by(user), sorted(user.groups.values_list("name", flat=True)), tokens


def state_of_groups() -> object:
    return {group.name: set(group.permissions.values_list("pk", flat=True)) for group in Group.objects.all()}


def attacks(target: User) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return posts that would change or strengthen ``target`` or a group, also with fields that no form shows."""
    groups = list(Group.objects.values_list("pk", flat=True))
    everything: dict[str, Any] = {
        "username": target.username, "first_name": "changed", "last_name": "changed", "email": "evil@example.com",
        "is_active": "on", "is_staff": "on", "is_superuser": "on", "password": "md5$x$y", "last_login": "2030-01-01",
        "user_permissions": list(Permission.objects.values_list("pk", flat=True)), "id": target.pk, "pk": target.pk,
        "usable_password": "true", "password1": "quite-other-2", "password2": "quite-other-2",
        "user_groups-TOTAL_FORMS": 1, "user_groups-INITIAL_FORMS": 0, "user_groups-0-group": groups[-1],
        "form-TOTAL_FORMS": 1, "form-INITIAL_FORMS": 1, "form-0-id": target.pk, "form-0-is_superuser": "on",
    }  # fmt: skip
    change = f"{USERS}{target.pk}/change/"
    for chosen in ([group] for group in groups):
        yield change, everything | {"groups": chosen}
        yield f"{USERS}add/", everything | {"groups": chosen, "username": f"new-{chosen[0]}"}
    own = list(target.groups.values_list("pk", flat=True))
    for suffix, button in zip(VARIANTS, BUTTONS, strict=True):
        for form in (
            everything | {"groups": own},
            {"username": target.username, "is_superuser": "on"},
            {"username": "renamed"},
        ):
            yield change + suffix, form | {button: "1"}
        yield f"{USERS}add/{suffix}", everything | {"groups": own, "username": f"new{button}"}
    yield f"{USERS}{target.pk}/password/", everything
    yield f"{USERS}{target.pk}/password/", {"usable_password": "false", "unset-password": "1"}
    yield USERS, {**everything, "_save": "1"}  # as if the list could be edited
    for group in groups:
        form = {"name": "taken", "permissions": everything["user_permissions"], "user_set": [target.pk]}
        yield f"{GROUPS}{group}/change/", form
        yield f"{GROUPS}{group}/change/?_popup=1&_to_field=name", form | {"_popup": "1"}
    yield f"{GROUPS}add/", {"name": "new", "permissions": everything["user_permissions"]}
    yield f"{GROUPS}add/?_popup=1", {"name": "new", "permissions": everything["user_permissions"], "_popup": "1"}
    yield f"{GROUPS}{groups[-1]}/delete/?_popup=1", {"post": "yes"}
    yield GROUPS, {"action": "delete_selected", "_selected_action": groups, "post": "yes", "select_across": "1"}
    yield f"/admin/tokens/of/{target.pk}/", {"name": "mine", "scope": "manager", "days": "", "user": target.pk}
    yield f"/admin/tokens/{Token.objects.filter(user=target).values_list('pk', flat=True).first() or 0}/revoke/", {}
    yield f"/admin/sign-out/{target.pk}/", {}
    yield f"{USERS}{target.pk}/delete/?_popup=1&_to_field=id", {"post": "yes", "_popup": "1"}
    for more in ({}, {"select_across": "1"}, {"index": "0", "action_index": "0"}):
        yield USERS, {"action": "delete_selected", "_selected_action": [target.pk], "post": "yes", **more}


@pytest.mark.parametrize("group_name", GROUPS_OF_ACTORS)
def test_member_of_a_group_gains_and_takes_nothing_by_any_post(group_name: str) -> None:
    actor = member_of(group_name)
    others = create_accounts()
    held, before_groups = held_by(actor), state_of_groups()
    before = {user.pk: state_of(user) for user in others}
    stronger = [user for user in others if user.is_superuser or held_by(user) - held]
    assert [user.username for user in stronger] == ["off-manager", "extra", "root"]
    actor_state: Any = state_of(actor)
    for target in [*stronger, *(user for user in others if user not in stronger), actor]:
        browser = Client()
        browser.force_login(actor)
        for address, form in attacks(target):
            status = browser.post(address, {name: value for name, value in form.items() if value != ""}).status_code
            assert status < 500, (address, form)
        assert [user.username for user in stronger if state_of(user) != before[user.pk]] == [], target
        for user in User.objects.exclude(pk__in=[user.pk for user in stronger]):
            assert not user.is_superuser
            assert held_by(user) <= held, (user, target)
    assert state_of_groups() == before_groups
    assert held_by(actor) <= held
    assert User.objects.get(pk=actor.pk).password == actor_state[0]["password"]
    kept = {str(user.pk) for user in stronger}
    assert {session.get_decoded()["_auth_user_id"] for session in Session.objects.all()} >= kept


@pytest.mark.parametrize("query", [
    "password__startswith=md5", "password__regex=.", "groups__user__password__startswith=m",
    "user__password__startswith=m",
    "logentry__user__password__contains=m", "api_tokens__digest__startswith=a", "user_permissions__user__password=x",
])  # fmt: skip
def test_lists_are_no_oracle_for_hashes(query: str) -> None:
    User.objects.create_superuser("root", password="long-and-odd-1")
    browser = browser_of("manager")
    for address in (USERS, GROUPS, "/admin/matching/match/", "/admin/products/product/"):
        for prefix in ("", "reviewer__", "product__"):
            response = browser.get(f"{address}?{prefix}{query}")
            assert response.status_code in (302, 400), (address, prefix)


@pytest.mark.parametrize("role", [role for role in ROLES if role != "manager"])
def test_autocomplete_lists_no_accounts(role: str) -> None:
    User.objects.create_superuser("root")
    sources = [("matching", "match", "reviewer"), ("auth", "user", "groups"), ("auth", "user", "user_permissions"),
               ("auth", "group", "permissions"), ("accounts", "token", "user"), ("admin", "logentry",
               "user")]  # fmt: skip
    for app, model, field in sources:
        query = {"app_label": app, "model_name": model, "field_name": field, "term": ""}
        response = browser_of(role).get("/admin/autocomplete/", query)
        assert response.status_code in (403, 404), (app, model, field)


@pytest.mark.parametrize("role", [role for role in ROLES if role != "manager"])
def test_action_that_a_role_is_not_offered_does_nothing_when_it_is_posted(role: str) -> None:
    product, matches = make_case(90, 80)
    rows = {"/admin/products/product/": [product.pk], "/admin/matching/match/": [match.pk for match in matches]}
    allowed = {"uploader": "products", "reviewer": "matching"}.get(role, "none")
    actions = ["delete_selected", "match_now", "embed_again", "confirm", "reject", "take_back"]
    for address, ids in rows.items():
        if allowed in address and role == "uploader":
            continue
        for action in (*actions[:3], *(() if role == "reviewer" else actions[3:])):
            form = {"action": action, "_selected_action": ids, "expected": str(len(ids)), "post": "yes"}
            for more in ({}, {"select_across": "1"}):
                browser_of(role).post(address, form | more)
    assert Match.objects.filter(review_status="pending").count() == 2
    assert ProductImage.objects.filter(state="ready").count() == 3


def test_inline_form_removes_and_moves_no_image_without_the_permission() -> None:
    group = Group.objects.create(name="writers")
    group.permissions.set(
        permissions(["products.view_product", "products.change_product", "products.view_productimage"])
    )
    writer = User.objects.create_user("writer", is_staff=True)
    writer.groups.add(group)
    product, other = make_product(name="one"), make_product(name="two")
    image = product.images.get()
    form: dict[str, Any] = {
        "sku": "", "name": "new", "category": "", "description": "", "attributes": "{}",
        "features-TOTAL_FORMS": 0, "features-INITIAL_FORMS": 0, "images-TOTAL_FORMS": 2, "images-INITIAL_FORMS": 1,
        "images-0-id": image.pk, "images-0-product": other.pk, "images-0-DELETE": "on", "images-0-state": "failed",
        "images-1-id": other.images.get().pk, "images-1-product": product.pk, "images-1-DELETE": "on",
    }  # fmt: skip
    browser_of(writer).post(f"/admin/products/product/{product.pk}/change/", form)
    image.refresh_from_db()
    assert (image.product_id, image.state, ProductImage.objects.count()) == (product.pk, "ready", 2)
    # The role with the permission cannot reach the image of another product either.
    save_product(
        product, **{"images-0-id": other.images.get().pk, "images-0-product": other.pk, "images-0-DELETE": "on"}
    )
    assert other.images.count() == 1


def test_api_takes_no_account_fields() -> None:
    product, (match,) = make_case(90)
    root = User.objects.create_superuser("root")
    form = {
        "review_status": "confirmed",
        "reviewer": "root",
        "reviewer_id": root.pk,
        "user": root.pk,
        "is_superuser": True,
    }
    response = client_of("reviewer").patch(f"/api/matches/{match.pk}", form)
    match.refresh_from_db()
    assert (response.status_code, match.reviewer.username) == (200, "reviewer")  # type: ignore[union-attr]
    client_of("uploader").patch(f"/api/products/{product.pk}", {"name": "new", "history_user": root.pk, "id": 99})
    entry = type(product).history.latest("history_id")
    assert (entry.history_user.username, entry.id) == ("uploader", product.pk)
