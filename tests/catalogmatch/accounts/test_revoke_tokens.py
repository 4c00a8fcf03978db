"""The command revoke_tokens: all tokens of one user stop working, those of others stay valid."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from tests.helpers.accounts import client_of

pytestmark = pytest.mark.django_db


def status(client: APIClient) -> int:
    return int(client.get("/api/queue").status_code)


def test_every_token_of_the_user_is_revoked_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    first, second, other = client_of("viewer"), client_of("viewer"), client_of("manager")
    assert [status(client) for client in (first, second, other)] == [200, 200, 200]
    call_command("revoke_tokens", "viewer")
    assert capsys.readouterr().out == "Revoked 2 tokens of viewer.\n"
    assert [status(client) for client in (first, second, other)] == [401, 401, 200]


def test_unknown_user_is_reported() -> None:
    with pytest.raises(CommandError, match="There is no user nobody"):
        call_command("revoke_tokens", "nobody")
