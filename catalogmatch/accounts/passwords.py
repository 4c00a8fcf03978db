"""Forgotten passwords, and first passwords that only a manager knows: their user changes them at the next sign-in."""

from __future__ import annotations

import logging
import threading
from typing import Any

from django.contrib.auth.forms import PasswordResetForm
from django.contrib.auth.models import User
from django.core.mail import EmailMultiAlternatives
from django.http import HttpRequest
from django.template import loader

from catalogmatch.accounts.models import FirstPassword

logger = logging.getLogger(__name__)

SESSION_KEY = "must_change_password"


def require_change(user: User) -> None:
    """Make the user choose another password at the next sign-in. Without a password there is nothing to change."""
    if user.has_usable_password():
        FirstPassword.objects.get_or_create(user=user)


def forget_requirement(user: User) -> None:
    """Note that the password was changed by its owner."""
    FirstPassword.objects.filter(user=user).delete()


def note_at_sign_in(request: HttpRequest | None, user: Any, **_: Any) -> None:
    """Remember in the session whether the password must be changed, so that pages need no query."""
    if request is not None and FirstPassword.objects.filter(user_id=user.pk).exists():
        request.session[SESSION_KEY] = True


def must_change(request: HttpRequest) -> bool:
    """Return whether the session may only be used to change the password."""
    return bool(request.session.get(SESSION_KEY))


class ResetForm(PasswordResetForm):
    """Send the link of a forgotten password in the background.

    The response comes as fast for an address without an account, so its time tells nothing about accounts.
    """

    def send_mail(
        self,
        subject_template_name: str,
        email_template_name: str,
        context: dict[str, Any],
        from_email: str | None,
        to_email: str,
        html_email_template_name: str | None = None,
    ) -> None:
        subject = "".join(loader.render_to_string(subject_template_name, context).splitlines())
        body = loader.render_to_string(email_template_name, context)
        message = EmailMultiAlternatives(subject, body, from_email, [to_email])
        threading.Thread(target=_send, args=(message, context["user"].pk), name="password-mail").start()


def _send(message: EmailMultiAlternatives, user_id: int) -> None:
    try:
        message.send()
    except Exception:  # the outer boundary of the thread
        logger.exception("The mail with a new password's link for user %s could not be sent. See EMAIL_URL.", user_id)
