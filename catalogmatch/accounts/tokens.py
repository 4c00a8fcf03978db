"""Create, find and revoke API tokens."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from catalogmatch.accounts.models import SHOWN_CHARACTERS, ScopedUser, Token
from catalogmatch.accounts.roles import give_role

DEFAULT_ROLE = "viewer"
KEY_BYTES = 32
MAX_ACTIVE_TOKENS = 100  # of one user, made on the page
USE_RECORDED_EVERY_SECONDS = 60
ENDED_TOKENS_KEPT_DAYS = 90
# A request does not wait longer than this for SQLite's write lock, only to record when its token was used.
RECORD_WAIT_SECONDS = 0.05
RETRY_SECONDS = 5.0
_recording = threading.Lock()
_failed_at = float("-inf")

logger = logging.getLogger(__name__)


class InactiveUserError(Exception):
    """The user is deactivated, so a token would be useless."""

    code = "user_inactive"


def create_token(username: str, role: str | None = None, days: int | None = None) -> str:
    """Return a new API token. The database stores only its hash.

    A missing user is created without a password, as a viewer unless ``role`` is given. An existing user keeps the
    role unless ``role`` is given. Without ``days`` the token does not expire. Raises InactiveUserError, KeyError for
    an unknown role, and ValidationError for an invalid user name.
    """
    with transaction.atomic():
        user = User.objects.filter(username=username).first()
        if user is None:
            user = User(username=username)
            user.set_unusable_password()
            user.full_clean(validate_unique=False)
            # Another process may create the same user at this moment.
            user, created = User.objects.get_or_create(username=user.username, defaults={"password": user.password})
            if created:
                role = role or DEFAULT_ROLE
        if not user.is_active:
            raise InactiveUserError(f"The user {username} is deactivated. Activate it in the admin first.")
        if role is not None:
            give_role(user, role)
        return issue_token(user, name="create_token", days=days)


def issue_token(user: User, *, name: str = "", scope: str = "", days: int | None = None) -> str:
    """Return a new token of the user, limited to the role ``scope`` if that is given.

    Tokens of the user that ended long ago are deleted. Raises ValidationError for an unknown scope or a long name.
    """
    key = secrets.token_hex(KEY_BYTES)
    now = timezone.now()
    token = Token(
        user=user,
        name=name,
        scope=scope,
        key_start=key[:SHOWN_CHARACTERS],
        digest=hashlib.sha256(key.encode()).hexdigest(),
        created_at=now,
        expires_at=now + timedelta(days=days) if days is not None else None,
    )
    token.full_clean()
    kept_since = now - timedelta(days=ENDED_TOKENS_KEPT_DAYS)
    with transaction.atomic():
        ended = Token.objects.filter(user=user)
        ended.filter(revoked_at__lt=kept_since).delete()
        ended.filter(expires_at__lt=kept_since).delete()
        token.save()
    return key


def issue_own_token(user: User, *, name: str, scope: str, days: int | None) -> str:
    """Return a new token for a user who asks for one. Raises ValidationError if the user has too many."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)  # two requests at once count one after the other
        if Token.objects.active().filter(user=user).count() >= MAX_ACTIVE_TOKENS:
            text = _("You have %(count)d active tokens. Revoke one that you do not need, then make a new one.")
            raise ValidationError(text % {"count": MAX_ACTIVE_TOKENS})
        return issue_token(user, name=name, scope=scope, days=days)


def find_token(key: bytes) -> Token | None:
    """Return the active token with this key and its user, or None. Does not look at whether the user is active."""
    return Token.objects.active().with_key(key)


def user_of_token(token: Token) -> User:
    """Return the user that a request with this token acts as."""
    return ScopedUser.limited(token.user, token.scope) if token.scope else token.user


def record_use(token: Token) -> None:
    """Store that the token was used, at most once a minute. A request never fails or waits long for this.

    One request of a process stores at a time, and none for some seconds after a failure. Otherwise all parallel
    requests would wait for SQLite's write lock while others write.
    """
    global _failed_at
    now = timezone.now()
    if not token.needs_use_recorded(now, USE_RECORDED_EVERY_SECONDS):
        return
    if time.monotonic() - _failed_at < RETRY_SECONDS or not _recording.acquire(blocking=False):
        return
    try:
        _store_use(token, now)
    except DatabaseError as error:
        _failed_at = time.monotonic()
        logger.info("The use of an API token was not recorded: %s", error)
    finally:
        _recording.release()


def _store_use(token: Token, now: datetime) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.cursor.timeout_seconds = RECORD_WAIT_SECONDS
        cursor.execute(
            "UPDATE api_tokens SET last_used_at = %s WHERE id = %s",
            [connection.ops.adapt_datetimefield_value(now), token.pk],
        )


def revoke_token(token: Token) -> None:
    """Revoke one token. A token that was revoked before keeps its date."""
    Token.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now())


def revoke_all(user: User) -> int:
    """Revoke all active tokens of a user. Return their number."""
    return Token.objects.active().filter(user=user.pk).update(revoked_at=timezone.now())


def revoke_tokens(username: str) -> int:
    """Revoke all active tokens of a user and return their number. Raises User.DoesNotExist."""
    return revoke_all(User.objects.get(username=username))
