"""revoke_tokens: revoke all API tokens of a user."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalogmatch.accounts.tokens import revoke_tokens


class Command(BaseCommand):
    help = "Revoke all API tokens of a user at once. To block a user completely, deactivate the user in the admin."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *, username: str, **_: Any) -> None:
        try:
            count = revoke_tokens(username)
        except User.DoesNotExist as error:
            raise CommandError(f"There is no user {username}.") from error
        self.stdout.write(f"Revoked {count:,} tokens of {username}.")
