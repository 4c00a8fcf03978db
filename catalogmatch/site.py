"""The admin site: registered pages, a throttled sign-in and the navigation."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.contrib.auth import views as auth_views
from django.core.exceptions import BadRequest
from django.db import DataError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse, reverse_lazy
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from unfold.forms import AdminOwnPasswordChangeForm
from unfold.sites import UnfoldAdminSite
from unfold.widgets import INPUT_CLASSES

from catalogmatch.accounts.passwords import SESSION_KEY as MUST_CHANGE
from catalogmatch.accounts.passwords import ResetForm, must_change
from catalogmatch.api.throttling import wait_for_password, wait_for_reset
from core.admin.pages import PAGES
from core.admin.requests import user_of

PENDING = "?review_status__exact=pending"  # the list of matches opens with the pending ones
EXACT = {"index", "products_product_changelist", "matching_match_changelist"}  # the URLs of other entries start alike


class CatalogSite(UnfoldAdminSite):
    index_template = "catalogmatch/home.html"
    login_template = "catalogmatch/login.html"
    password_change_template = "catalogmatch/password_change.html"  # noqa: S105  # nosec B105: the name of a template

    def get_urls(self) -> list[Any]:
        options = {"extra_context": {"site_title": _lazy("CatalogMatch"), "title": _lazy("Forgotten password")}}
        sent, done = (
            auth_views.PasswordResetDoneView.as_view(template_name="catalogmatch/password_sent.html", **options),
            auth_views.PasswordResetCompleteView.as_view(template_name="catalogmatch/password_done.html", **options),
        )
        new = NewPasswordView.as_view(site=self, **options)
        return [
            path("password_reset/", ForgottenPasswordView.as_view(site=self, **options), name="admin_password_reset"),
            path("password_reset/sent/", sent, name="password_reset_done"),
            path("reset/<uidb64>/<token>/", new, name="password_reset_confirm"),
            path("reset/done/", done, name="password_reset_complete"),
            *super().get_urls(),
        ]

    def extra_urls(self) -> list[URLPattern]:
        return [path(page.route, self.admin_view(page.view), name=page.name) for page in PAGES]

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        """Return the view for signed-in staff. It raises BadRequest for values that the database cannot use."""

        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if must_change(request) and request.path not in _change_urls():
                messages.info(request, _("A manager knows your password. Choose one that only you know."))
                return redirect("admin:password_change")
            try:
                return view(request, *args, **kwargs)
            except DataError as error:  # such as a number of over 64 bits
                raise BadRequest(str(error)) from error

        return super().admin_view(checked, cacheable)

    @method_decorator(never_cache)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the sign-in page. The status is 429 after too many attempts from this address or as this user."""
        if request.method == "POST" and (seconds := wait_for_password(request, request.POST.get("username", ""))):
            context = {"title": _("Log in"), "app_path": request.get_full_path(), "form": self.login_form(request)}
            return self.too_many_attempts(request, self.login_template, context, seconds)
        ended = _("Your session has ended. Your last action was not saved. Sign in to continue.")
        context = {"notice": ended if "ended" in request.GET else "", **(extra_context or {})}
        response: HttpResponse = super().login(request, context)
        return response

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the page for one's own password. Attempts with the old one count as attempts to sign in."""
        user = user_of(request)
        if request.method == "POST" and (seconds := wait_for_password(request, user.get_username())):
            context = {"title": _("Password change"), "form": AdminOwnPasswordChangeForm(user)}
            return self.too_many_attempts(request, self.password_change_template, context, seconds)
        response: HttpResponse = super().password_change(request, extra_context)
        if request.method == "POST" and response.status_code == HTTPStatus.FOUND:
            request.session.pop(MUST_CHANGE, None)
        return response

    def too_many_attempts(
        self, request: HttpRequest, template: str, context: dict[str, Any], seconds: int
    ) -> HttpResponse:
        text = ngettext(
            "Too many attempts. Try again in %(seconds)d second.",
            "Too many attempts. Try again in %(seconds)d seconds.",
            seconds,
        )
        context = {**self.each_context(request), **context, "notice": text % {"seconds": seconds}}
        return TemplateResponse(request, template, context, status=429, headers={"Retry-After": str(seconds)})


class _Styled:
    """Gives the fields of a form outside the admin the admin's look."""

    site: CatalogSite

    def get_form(self, *args: Any) -> Any:
        form = super().get_form(*args)  # type: ignore[misc]  # of Django's view beside it
        for field in form.fields.values():
            field.widget.attrs["class"] = " ".join(INPUT_CLASSES)
        return form

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)  # type: ignore[misc]
        return {**self.site.each_context(self.request), **context}  # type: ignore[attr-defined]


class ForgottenPasswordView(_Styled, auth_views.PasswordResetView):
    """Send a link to choose a new password. The response is the same for addresses without an account."""

    site: Any = None
    form_class = ResetForm
    template_name = "catalogmatch/password_forgotten.html"
    subject_template_name = "catalogmatch/password_mail_subject.txt"
    email_template_name = "catalogmatch/password_mail.txt"
    success_url = reverse_lazy("admin:password_reset_done")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if seconds := wait_for_reset(request, request.POST.get("email", "")):
            context = self.get_context_data(form=self.get_form_class()())
            return self.site.too_many_attempts(request, self.template_name, context, seconds)  # type: ignore[no-any-return]
        return super().post(request, *args, **kwargs)


class NewPasswordView(_Styled, auth_views.PasswordResetConfirmView):
    """Take the new password of a user who has followed the link of a mail."""

    site: Any = None
    template_name = "catalogmatch/password_new.html"
    success_url = reverse_lazy("admin:password_reset_complete")
    reset_url_token = "new"  # noqa: S105  # nosec B105: a part of an address


def _change_urls() -> tuple[str, ...]:
    """Return the addresses that a user who must choose another password may open."""
    return reverse("admin:password_change"), reverse("admin:password_change_done"), reverse("admin:jsi18n")


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar with the entries that the user may see."""

    def item(title: str, icon: str, name: str, permission: str | None = None, query: str = "") -> dict[str, Any]:
        allowed = permission is None or request.user.has_perm(permission)
        link = reverse(name if name == "docs" else f"admin:{name}")
        return {
            "title": title,
            "icon": icon,
            "link": link + query,
            "active": request.path == link if name in EXACT else request.path.startswith(link),
            "permission": lambda _request: allowed,
        }

    return [
        {
            "title": _("Tasks"),
            "items": [
                item(_("Home"), "home", "index"),
                item(_("Review"), "compare", "matching_match_next", "matching.view_match"),
                item(_("Ask"), "image_search", "ask", "matching.view_match"),
                item(_("Upload"), "upload", "products_product_add", "products.add_product"),
                item(_("Import"), "upload_file", "products_import", "products.add_product"),
            ],
        },
        {
            "title": _("Catalogue"),
            "separator": True,
            "items": [
                item(_("Products"), "inventory_2", "products_product_changelist", "products.view_product"),
                item(_("Matches"), "join_inner", "matching_match_changelist", "matching.view_match", PENDING),
                item(_("Duplicates"), "content_copy", "duplicates", "matching.view_match"),
                item(_("Agreement"), "balance", "agreement", "matching.view_match"),
                item(_("History"), "history", "history", "products.view_product"),
            ],
        },
        {
            "title": _("System"),
            "separator": True,
            "items": [
                item(_("Device and model"), "memory", "device", "gpu.view_embeddingworker"),
                item(_("Models"), "model_training", "models", "gpu.view_modelversion"),
                item(_("Policy"), "gavel", "policy", "matching.view_policy"),
                item(_("Quality"), "monitoring", "quality", "matching.view_match"),
                item(_("Settings"), "tune", "settings", "products.view_preferencechange"),
                item(_("API tokens"), "key", "tokens"),
                item(_("API"), "api", "docs"),
                item(_("Users"), "group", "auth_user_changelist", "auth.view_user"),
                item(_("Roles"), "badge", "auth_group_changelist", "auth.view_group"),
            ],
        },
    ]
