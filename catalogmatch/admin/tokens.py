"""API tokens in the admin: users make and revoke their own. Managers revoke those of users whom they manage."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from catalogmatch.accounts.models import Token
from catalogmatch.accounts.roles import ROLES
from catalogmatch.accounts.rules import may_end_access
from catalogmatch.accounts.sessions import sign_out_everywhere
from catalogmatch.accounts.tokens import issue_own_token, revoke_token
from core.admin.pages import admin_page
from core.admin.requests import user_of

MAX_SHOWN = 200  # tokens, newest first


class TokenForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=100,
        help_text=gettext_lazy("The program or computer that uses this token."),
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
    )
    days = forms.TypedChoiceField(
        label=gettext_lazy("Expires"),
        choices=[
            ("30", gettext_lazy("in 30 days")),
            ("90", gettext_lazy("in 90 days")),
            ("365", gettext_lazy("in one year")),
            ("", gettext_lazy("never")),
        ],
        coerce=int,
        empty_value=None,
        required=False,
        initial="90",
        widget=UnfoldAdminSelectWidget(),
    )
    scope = forms.ChoiceField(
        label=gettext_lazy("Scope"),
        choices=[("", gettext_lazy("everything that you may do")), *((role, role) for role in ROLES)],
        required=False,
        help_text=gettext_lazy("A role limits the token to those of your permissions that the role has."),
        widget=UnfoldAdminSelectWidget(),
    )


@admin_page("tokens/", name="tokens")
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_variables("key")
def tokens(request: HttpRequest) -> HttpResponse:
    """Show the user's own tokens, and make a new one. Only the response to that shows the token."""
    form, key = TokenForm(), ""
    if request.method == "POST":
        form = TokenForm(request.POST)
        if form.is_valid():
            try:
                key = issue_own_token(user_of(request), **form.cleaned_data)
                form = TokenForm()
            except ValidationError as error:
                form.add_error(None, error)
    context = _context(request, user_of(request)) | {"form": form, "key": key, "title": _("Your API tokens")}
    return TemplateResponse(request, "catalogmatch/tokens.html", context, status=422 if form.errors else 200)


@admin_page("tokens/of/<int:user_id>/", name="tokens_of")
@require_safe
def tokens_of(request: HttpRequest, user_id: int) -> HttpResponse:
    """Show the tokens of a user whom the signed-in user may manage."""
    owner = _owner(request, user_id)
    context = _context(request, owner) | {"title": _("API tokens of %(name)s") % {"name": owner.get_username()}}
    return TemplateResponse(request, "catalogmatch/tokens.html", context)


@admin_page("tokens/<int:token_id>/revoke/", name="token_revoke")
@require_POST
def revoke(request: HttpRequest, token_id: int) -> HttpResponse:
    """Revoke a token of one's own, or of a user whom the signed-in user may manage."""
    token = get_object_or_404(Token.objects.select_related("user"), pk=token_id)
    if not may_end_access(user_of(request), token.user):
        raise PermissionDenied
    revoke_token(token)
    messages.success(request, _("The token %(token)s was revoked.") % {"token": token})
    return redirect("admin:tokens") if token.user == user_of(request) else redirect("admin:tokens_of", token.user_id)


@admin_page("sign-out/<int:user_id>/", name="sign_out_everywhere")
@require_POST
def sign_out(request: HttpRequest, user_id: int) -> HttpResponse:
    """End all sessions of a user and revoke all tokens: one's own, or of a user whom one may manage."""
    owner = _owner(request, user_id)
    revoked = sign_out_everywhere(owner)
    if owner == user_of(request):
        logout(request)
        return redirect("admin:login")
    text = ngettext(
        "%(name)s is signed out everywhere. %(count)d token was revoked.",
        "%(name)s is signed out everywhere. %(count)d tokens were revoked.",
        revoked,
    )
    messages.success(request, text % {"name": owner.get_username(), "count": revoked})
    return redirect("admin:tokens_of", owner.pk)


def _owner(request: HttpRequest, user_id: int) -> User:
    """Return a user whose access the signed-in user may end. Raises PermissionDenied and Http404."""
    owner = get_object_or_404(User, pk=user_id)
    if not may_end_access(user_of(request), owner):
        raise PermissionDenied
    return owner


def _context(request: HttpRequest, owner: User) -> dict[str, Any]:
    return {
        **admin.site.each_context(request),
        "owner": owner,
        "is_own": owner == user_of(request),
        "tokens": Token.objects.filter(user=owner)[:MAX_SHOWN],
    }
