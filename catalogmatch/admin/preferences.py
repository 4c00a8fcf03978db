"""The page Settings: the preferences of all rooms, for managers, and who changed them last."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from core.admin.pages import admin_page
from core.admin.requests import require_permissions, user_of
from core.database.ids import parse_id
from products import preferences
from products.models import PreferenceChange

VIEW, CHANGE = "products.view_preferencechange", "products.add_preferencechange"
RECENT_CHANGES = 20


@admin_page("settings/", name="settings")
@require_http_methods(["GET", "HEAD", "POST"])
def show(request: HttpRequest) -> HttpResponse:
    """Show all preferences and the latest changes. A post stores those that differ."""
    require_permissions(request, CHANGE if request.method == "POST" else VIEW)
    form = _form(request)
    if request.method == "POST" and form.is_valid():
        try:
            changed = preferences.change(form.cleaned_data, user_of(request), _seen(request))
        except preferences.StalePreferenceError as stale:
            messages.error(request, str(stale))
            return redirect("admin:settings")
        except ValidationError as error:
            form.add_error(None, error)
        else:
            text = ngettext("%(count)d setting saved.", "%(count)d settings saved.", len(changed))
            messages.success(request, text % {"count": len(changed)} if changed else _("Nothing was changed."))
            return redirect("admin:settings")
    return _page(request, form)


def _form(request: HttpRequest) -> forms.Form:
    """Return the form with a field for each preference, under the preference's name."""
    declared = preferences.declared()
    form = forms.Form(
        request.POST if request.method == "POST" else None,
        initial={one.name: preferences.value(one) for one in declared},
    )
    form.fields = {one.name: one.field() for one in declared}
    for field in form.fields.values():
        field.disabled = not request.user.has_perm(CHANGE)
        if not isinstance(field, forms.BooleanField):
            field.widget.attrs["class"] = "cm-select"
    return form


def _seen(request: HttpRequest) -> int:
    return parse_id(request.POST.get("seen", "")) or 0


def _page(request: HttpRequest, form: forms.Form) -> HttpResponse:
    declared = {one.name: one for one in preferences.declared()}
    newest = preferences.last_change()
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": _("Settings"),
        "form": form,
        "groups": [
            (group, [form[one.name] for one in members])
            for group, members in groupby(declared.values(), key=lambda one: str(one.group))
        ],
        "seen": newest.pk if newest else 0,
        "changes": [
            (change, declared[change.name].field().label if change.name in declared else change.name)
            for change in PreferenceChange.objects.select_related("changed_by").order_by("-id")[:RECENT_CHANGES]
        ],
        "may_change": request.user.has_perm(CHANGE),
    }
    status = 400 if form.errors else 200
    return TemplateResponse(request, "catalogmatch/settings.html", context, status=status)
