"""The admin site: registered pages, a throttled sign-in and the navigation."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import BadRequest
from django.db import DataError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from unfold.forms import AdminOwnPasswordChangeForm
from unfold.sites import UnfoldAdminSite

from catalogmatch.api.throttling import wait_for_password
from core.admin.pages import PAGES
from core.admin.requests import user_of

PENDING = "?review_status__exact=pending"  # the list of matches opens with the pending ones
EXACT = {"index", "products_product_changelist", "matching_match_changelist"}  # the URLs of other entries start alike


class CatalogSite(UnfoldAdminSite):
    index_template = "catalogmatch/home.html"
    login_template = "catalogmatch/login.html"
    password_change_template = "catalogmatch/password_change.html"  # noqa: S105  # nosec B105: the name of a template

    def extra_urls(self) -> list[URLPattern]:
        return [path(page.route, self.admin_view(page.view), name=page.name) for page in PAGES]

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        """Return the view for signed-in staff. It raises BadRequest for values that the database cannot use."""

        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
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
            return self._too_many_attempts(request, self.login_template, context, seconds)
        ended = _("Your session has ended. Your last action was not saved. Sign in to continue.")
        context = {"notice": ended if "ended" in request.GET else "", **(extra_context or {})}
        response: HttpResponse = super().login(request, context)
        return response

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the page for one's own password. Attempts with the old one count as attempts to sign in."""
        user = user_of(request)
        if request.method == "POST" and (seconds := wait_for_password(request, user.get_username())):
            context = {"title": _("Password change"), "form": AdminOwnPasswordChangeForm(user)}
            return self._too_many_attempts(request, self.password_change_template, context, seconds)
        response: HttpResponse = super().password_change(request, extra_context)
        return response

    def _too_many_attempts(
        self, request: HttpRequest, template: str, context: dict[str, Any], seconds: int
    ) -> HttpResponse:
        text = ngettext(
            "Too many attempts. Try again in %(seconds)d second.",
            "Too many attempts. Try again in %(seconds)d seconds.",
            seconds,
        )
        context = {**self.each_context(request), **context, "notice": text % {"seconds": seconds}}
        return TemplateResponse(request, template, context, status=429, headers={"Retry-After": str(seconds)})


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar with the entries that the user may see."""

    def item(title: str, icon: str, name: str, permission: str | None = None, query: str = "") -> dict[str, Any]:
        allowed = permission is None or request.user.has_perm(permission)
        link = reverse(f"admin:{name}")
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
                item(_("Users"), "group", "auth_user_changelist", "auth.view_user"),
                item(_("Roles"), "badge", "auth_group_changelist", "auth.view_group"),
            ],
        },
    ]
