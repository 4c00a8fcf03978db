"""Check what each role may do to each kind of account on the pages, against ``account_access_table.txt``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import transaction
from django.test import Client

from catalogmatch.accounts.models import Token
from catalogmatch.accounts.roles import ROLES, give_role
from catalogmatch.accounts.tokens import issue_token
from tests.helpers.accounts import user_in

TABLE = Path(__file__).with_name("account_access_table.txt")
IDENTITIES = (*ROLES, "officer", "superuser")
PASSWORDS = {"usable_password": "true", "password1": "long-and-odd-1", "password2": "long-and-odd-1"}
USERS = "/admin/auth/user/"

pytestmark = pytest.mark.django_db


def officer() -> User:
    """Return a user in a group with all permissions on users and groups, and no others."""
    group, _created = Group.objects.get_or_create(name="officers")
    names = [f"{verb}_{kind}" for verb in ("view", "add", "change", "delete") for kind in ("user", "group")]
    group.permissions.set(Permission.objects.filter(codename__in=names, content_type__app_label="auth"))
    user, _created = User.objects.get_or_create(username="officer", defaults={"is_staff": True})
    user.groups.set([group])
    return user


def user_as(identity: str) -> User:
    if identity == "superuser":
        return User.objects.create_superuser("actor")
    return officer() if identity == "officer" else user_in(identity)


def create_account(kind: str) -> User:
    """Create the account that is to be changed."""
    if kind in ("root", "off"):
        return User.objects.create_superuser(kind, is_active=kind == "root")
    user = User.objects.create_user(kind, is_staff=True)
    if kind in ("equal", "more"):
        give_role(user, "manager")
    if kind == "viewing":
        give_role(user, "viewer")
    if kind == "more":
        user.user_permissions.add(Permission.objects.get(codename="delete_user"))
    return user


def form_of(user: User, **changes: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "username": user.username, "is_active": "on" if user.is_active else "", "is_staff": "on",
        "groups": [group.pk for group in user.groups.all()], **changes,
    }  # fmt: skip
    return {name: value for name, value in fields.items() if value != ""}


def rename(browser: Client, user: User) -> None:
    browser.post(f"{USERS}{user.pk}/change/", form_of(user, first_name="changed"))


def set_password(browser: Client, user: User) -> None:
    browser.post(f"{USERS}{user.pk}/password/", PASSWORDS)


def switch(browser: Client, user: User) -> None:
    browser.post(f"{USERS}{user.pk}/change/", form_of(user, is_active="" if user.is_active else "on"))


def delete(browser: Client, user: User) -> None:
    browser.post(f"{USERS}{user.pk}/delete/", {"post": "yes"})


def delete_in_list(browser: Client, user: User) -> None:
    form = {"action": "delete_selected", "_selected_action": [user.pk], "post": "yes"}
    browser.post(USERS, form)
    browser.post(USERS, form | {"select_across": "1"})


def make_manager(browser: Client, user: User) -> None:
    browser.post(f"{USERS}{user.pk}/change/", form_of(user, groups=[Group.objects.get(name="manager").pk]))


def give_officers(browser: Client, user: User) -> None:
    officer()
    browser.post(f"{USERS}{user.pk}/change/", form_of(user, groups=[Group.objects.get(name="officers").pk]))


def give_permissions(browser: Client, user: User) -> None:
    all_permissions = [permission.pk for permission in Permission.objects.all()]
    browser.post(f"{USERS}{user.pk}/change/", form_of(user, is_superuser="on", user_permissions=all_permissions))


def revoke_token(browser: Client, user: User) -> None:
    browser.post(f"/admin/tokens/{Token.objects.get(user=user).pk}/revoke/")


def sign_out(browser: Client, user: User) -> None:
    browser.post(f"/admin/sign-out/{user.pk}/")


ACTIONS: dict[str, Callable[[Client, User], None]] = {
    action.__name__: action
    for action in (
        rename, set_password, switch, delete, delete_in_list, make_manager, give_officers, give_permissions,
        revoke_token, sign_out,
    )
}  # fmt: skip
ACCOUNTS = ("plain", "viewing", "equal", "more", "root", "off")


def state_of(user_id: int) -> object:
    """Return everything about an account that one of the actions changes."""
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        return None
    rights = sorted(user.groups.values_list("name", flat=True)), user.user_permissions.count()
    tokens = Token.objects.active().filter(user=user).count()
    return user.first_name, user.password, user.is_active, user.is_superuser, rights, tokens


def table_lines(outcomes: dict[tuple[str, str], dict[str, str]]) -> list[str]:
    return [
        f"{action:<17}{kind:<9}" + "".join(f"{found[identity]:>10}" for identity in IDENTITIES)
        for (action, kind), found in outcomes.items()
    ]


def test_account_is_changed_only_by_users_with_at_least_its_rights() -> None:
    outcomes: dict[tuple[str, str], dict[str, str]] = {}
    for name, action in ACTIONS.items():
        for kind in ACCOUNTS:
            outcomes[name, kind] = {}
            for identity in IDENTITIES:
                with transaction.atomic():
                    browser = Client()
                    browser.force_login(user_as(identity))
                    user = create_account(kind)
                    issue_token(user)
                    before = state_of(user.pk)
                    action(browser, user)
                    outcomes[name, kind][identity] = "yes" if state_of(user.pk) != before else "no"
                    transaction.set_rollback(True)
    expected = [line for line in TABLE.read_text().splitlines() if line and not line.startswith("#")][1:]
    assert table_lines(outcomes) == expected


@pytest.mark.parametrize("role", ["manager", "officer"])
def test_new_user_gets_no_rights_that_its_creator_lacks(role: str) -> None:
    browser = Client()
    browser.force_login(user_as(role))
    officer()
    form = PASSWORDS | {"is_superuser": "on", "user_permissions": [Permission.objects.all()[0].pk]}
    for group in Group.objects.all():
        browser.post(f"{USERS}add/", form | {"username": f"in-{group.name}", "groups": [group.pk]})
    made = User.objects.filter(username__startswith="in-")
    assert not made.filter(is_superuser=True).exists()
    assert not Permission.objects.filter(user__in=made).exists()
    expected = {"manager": {"in-viewer", "in-uploader", "in-reviewer", "in-manager"}, "officer": {"in-officers"}}
    assert set(made.values_list("username", flat=True)) == expected[role]


def test_only_a_superuser_changes_groups() -> None:
    browser = Client()
    browser.force_login(officer())
    group = Group.objects.get(name="officers")
    all_permissions = [permission.pk for permission in Permission.objects.all()]
    before = group.permissions.count(), Group.objects.count()
    form = {"name": "officers", "permissions": all_permissions}
    assert browser.get(f"/admin/auth/group/{group.pk}/change/").status_code == 200
    assert browser.post(f"/admin/auth/group/{group.pk}/change/", form).status_code == 403
    assert browser.post("/admin/auth/group/add/", form | {"name": "new"}).status_code == 403
    assert browser.post(f"/admin/auth/group/{group.pk}/delete/", {"post": "yes"}).status_code == 403
    browser.post("/admin/auth/group/", {"action": "delete_selected", "_selected_action": [group.pk], "post": "yes"})
    assert (group.permissions.count(), Group.objects.count()) == before


def test_selection_with_an_account_of_more_rights_is_rejected_as_a_whole() -> None:
    browser = Client()
    browser.force_login(officer())
    users = [User.objects.create_user("plain"), User.objects.create_superuser("root")]
    form = {"action": "delete_selected", "_selected_action": [user.pk for user in users], "post": "yes"}
    assert browser.post(USERS, form).status_code == 403
    assert User.objects.filter(pk__in=[user.pk for user in users]).count() == 2


def test_page_of_an_account_with_more_rights_hides_password_and_tokens() -> None:
    superuser = User.objects.create_superuser("boss", password="long-and-odd-1")
    browser = Client()
    browser.force_login(user_in("manager"))
    page = browser.get(f"{USERS}{superuser.pk}/change/").content.decode()
    assert "boss" in page
    assert superuser.password.rpartition("$")[2] not in page
    assert "pbkdf2" not in page
    assert f"/admin/tokens/of/{superuser.pk}/" not in page
    assert browser.get(f"/admin/tokens/of/{superuser.pk}/").status_code == 403
