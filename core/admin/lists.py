"""Admin lists and pages that reject invalid ids instead of failing."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from core.database.ids import parse_id


class CheckedAdmin(ModelAdmin):
    """The base of all model pages. Django passes some values of a request to the database unchecked."""

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **options: Any) -> Any:
        """Run an action on the selected rows. Raises BadRequest for a selection that cannot be one."""
        for text in request.POST.getlist(ACTION_CHECKBOX_NAME):
            if parse_id(text) is None:
                raise BadRequest(f"No row has the id {text[:50]!r}.")
        return super().response_action(request, queryset, *args, **options)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list. If the table has no row at all, its ``nothing`` says why."""
        changes = super().get_changelist_instance(request)
        is_empty = not changes.result_count and not self.model._default_manager.exists()
        changes.nothing = self.why_empty(request) if is_empty else None
        return changes

    def why_empty(self, request: HttpRequest) -> dict[str, Any] | None:
        """Return why the table has no rows and what to do: ``title``, ``text`` and ``actions``."""
        return None

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return a row or None. An empty ``_to_field`` counts as missing."""
        return super().get_object(request, object_id, from_field or None)
