"""Pages for errors 403 and 404: within the site for its users, and a plain page for everybody else."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.views import defaults


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    heading = _("Your role does not include this page")
    text = _("A manager can give you another role, under Users.")
    return _in_site(request, 403, heading, text) or defaults.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    heading = _("Page not found")
    text = _("The address is wrong, or the item was deleted. The history shows who deleted what, and when.")
    return _in_site(request, 404, heading, text) or defaults.page_not_found(request, exception)


def _in_site(request: HttpRequest, status: int, heading: str, text: str) -> HttpResponse | None:
    """Return the page with the site's navigation, or None outside the admin and for other users."""
    user: Any = getattr(request, "user", None)
    if not request.path.startswith("/admin/") or user is None or not (user.is_active and user.is_staff):
        return None
    context = {**admin.site.each_context(request), "title": heading, "text": text}
    return TemplateResponse(request, "catalogmatch/error_page.html", context, status=status).render()
