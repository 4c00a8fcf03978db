"""create_token: create an API token for a user."""

from __future__ import annotations

import argparse
from typing import Any

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalogmatch.accounts.roles import ROLES
from catalogmatch.accounts.tokens import InactiveUserError, create_token


class Command(BaseCommand):
    help = "Create an API token and print it alone on stdout. It cannot be shown again: the database stores its hash."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", help="the user, created without a password if missing")
        parser.add_argument("--role", choices=list(ROLES), help="default: viewer for a new user, unchanged for others")
        parser.add_argument("--days", type=_days, help="days until the token expires (default: never)")

    def handle(self, *, username: str, role: str | None, days: int | None, **_: Any) -> None:
        try:
            self.stdout.write(create_token(username, role, days))
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        except InactiveUserError as error:
            raise CommandError(str(error)) from error
        except Group.DoesNotExist as error:
            raise CommandError("The roles are missing. Run `manage.py migrate` first.") from error


def _days(text: str) -> int:
    days = int(text)
    if days < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return days
