"""API tokens, and the user that a request with a token acts as."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from catalogmatch.accounts.roles import ROLES

SHOWN_CHARACTERS = 8


class TokenQuerySet(models.QuerySet["Token"]):
    def active(self) -> TokenQuerySet:
        """Return the tokens that are neither revoked nor expired."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()), revoked_at=None)

    def with_key(self, key: bytes) -> Token | None:
        """Return the token with this key, and its user."""
        digests = {name: hashlib.new(name, key).hexdigest() for name in Token.Algorithm.values}
        # Unordered, so that the database uses the unique index of the digests.
        found = self.filter(digest__in=digests.values()).select_related("user").order_by()
        return next((token for token in found if digests[token.algorithm] == token.digest), None)


class Token(models.Model):
    """An API token. The key itself is not stored, only its digest and first characters."""

    class Algorithm(models.TextChoices):
        SHA256 = "sha256"
        SHA512 = "sha512"  # tokens that django-rest-knox made for version 1.0.0

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(_("name"), max_length=100, blank=True)
    key_start = models.CharField(max_length=SHOWN_CHARACTERS)
    algorithm = models.CharField(max_length=6, choices=Algorithm.choices, default=Algorithm.SHA256)
    digest = models.CharField(max_length=128, unique=True)
    # The role that bounds what the token may do. Empty: everything that its user may do.
    scope = models.CharField(_("scope"), max_length=10, blank=True, choices=[(role, role) for role in ROLES])
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = TokenQuerySet.as_manager()

    class Meta:
        db_table = "api_tokens"
        ordering = ["-id"]
        default_permissions = ()  # the rules are in ``rules.py``

    def __str__(self) -> str:
        return f"{self.name or _('without a name')} ({self.key_start}…)"

    @property
    def state(self) -> str:
        """Return active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= timezone.now() else "active"

    def needs_use_recorded(self, now: datetime, seconds: int) -> bool:
        """Return whether the last recorded use is older than ``seconds``."""
        return self.last_used_at is None or abs((now - self.last_used_at).total_seconds()) >= seconds


class FirstPassword(models.Model):
    """The user still has the password that a manager set, and must choose another one at the next sign-in."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, primary_key=True, related_name="first_password")

    class Meta:
        db_table = "first_passwords"
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.user)


class ScopedUser(User):
    """A user during a request with a token of one scope. Every permission check is limited to that scope."""

    scope = ""

    class Meta:
        proxy = True
        default_permissions = ()

    @classmethod
    def limited(cls, user: User, scope: str) -> ScopedUser:
        """Return this user limited to the role ``scope``. An unknown role allows nothing."""
        names = [field.attname for field in user._meta.concrete_fields]
        limited: ScopedUser = cls.from_db(user._state.db, names, [getattr(user, name) for name in names])
        limited.scope = scope
        return limited

    @property
    def _allowed(self) -> frozenset[str]:
        return ROLES.get(self.scope, frozenset())

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return perm in self._allowed and super().has_perm(perm, obj)

    def has_module_perms(self, app_label: str) -> bool:
        return any(self.has_perm(perm) for perm in self._allowed if perm.partition(".")[0] == app_label)

    def get_all_permissions(self, obj: Any = None) -> set[str]:
        return super().get_all_permissions(obj) & self._allowed
