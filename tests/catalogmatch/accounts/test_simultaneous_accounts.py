"""Users, roles and tokens that are created at the same moment."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError

from catalogmatch.accounts import tokens
from catalogmatch.accounts.models import Token
from catalogmatch.accounts.roles import ROLES, give_role
from tests.helpers.accounts import user_in
from tests.helpers.installations import manage, start
from tests.helpers.threads import run_concurrently


@pytest.mark.django_db(transaction=True)
def test_tokens_for_a_new_user_at_once_create_one_user(monkeypatch: pytest.MonkeyPatch) -> None:
    barrier, clean = Barrier(4), User.full_clean

    def clean_late(user: User, **options: Any) -> None:
        with suppress(BrokenBarrierError):  # on SQLite only one of them gets here at a time
            barrier.wait(1)
        clean(user, **options)

    monkeypatch.setattr(User, "full_clean", clean_late)
    keys = run_concurrently(*[partial(tokens.create_token, "ada", "uploader")] * 4)
    assert len(set(keys)) == Token.objects.filter(user=User.objects.get(username="ada")).count() == 4


def test_two_processes_that_create_a_token_for_a_new_user_create_one_user(tmp_path: Path) -> None:
    assert manage(tmp_path, "migrate").returncode == 0
    processes = [start(tmp_path, "create_token", "ada") for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


@pytest.mark.django_db(transaction=True)
def test_roles_given_at_once_leave_one_role() -> None:
    user = user_in("viewer")
    for _ in range(5):
        run_concurrently(*(partial(give_role, User.objects.get(pk=user.pk), role) for role in ROLES))
        assert user.groups.count() == 1


@pytest.mark.django_db(transaction=True)
def test_requests_at_once_do_not_get_more_tokens_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_ACTIVE_TOKENS", 3)
    user = user_in("viewer")

    def issue() -> bool:
        try:
            tokens.issue_own_token(user, name="", scope="", days=None)
        except ValidationError:
            return False
        return True

    assert sum(run_concurrently(*[issue] * 8)) == 3
