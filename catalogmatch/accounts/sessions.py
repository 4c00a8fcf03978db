"""End the sessions and API tokens of a user."""

from __future__ import annotations

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone

from catalogmatch.accounts.tokens import revoke_all

BATCH = 500


def sign_out_everywhere(user: User) -> int:
    """End all sessions of the user and revoke all API tokens. Return the number of revoked tokens."""
    with transaction.atomic():
        end_sessions(user)
        return revoke_all(user)


def end_sessions(user: User) -> None:
    """Delete all sessions of the user. Reads every session, because only its content names the user."""
    keys = [
        session.session_key
        for session in Session.objects.filter(expire_date__gt=timezone.now()).iterator(BATCH)
        if session.get_decoded().get(SESSION_KEY) == str(user.pk)
    ]
    for start in range(0, len(keys), BATCH):
        Session.objects.filter(session_key__in=keys[start : start + BATCH]).delete()
