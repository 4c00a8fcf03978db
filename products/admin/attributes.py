"""Attributes in a form: a row for each, with its name and value."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

SPARE_ROWS = 2  # for new attributes; the page's script adds more


class AttributesWidget(forms.Widget):
    """Rows of a name and a value. A row without a name is no attribute, so emptying the name removes it.

    A value that is a text is shown as it is, every other one as JSON. It keeps its type if it is not changed, and if
    the new text still is a number, yes or no, or a list.
    """

    template_name = "catalogmatch/attributes.html"

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        stored = _typed(value, "json") if isinstance(value, str) else value
        if stored and not isinstance(stored, dict):
            rows = [{"name": "", "value": value, "kind": "json"}]  # what cannot be attributes, beside its error
        else:
            rows = [
                {
                    "name": _readable(key),
                    "value": _readable(_shown(item)),
                    "kind": "text" if isinstance(item, str) else "json",
                }
                for key, item in (stored or {}).items()
            ]
        context["rows"] = rows + [{"name": "", "value": "", "kind": "text"}] * SPARE_ROWS
        return context

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        # The renderer of forms does not know the project's templates.
        return render_to_string(self.template_name, self.get_context(name, value, attrs))

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        """Return the attributes as JSON. A posted JSON document counts as it is."""
        if name in data or not hasattr(data, "getlist"):
            return data.get(name)
        parts = (data.getlist(f"{name}-{part}") for part in ("name", "value", "kind"))
        rows = [(key.strip(), text, kind) for key, text, kind in zip(*parts, strict=False) if key.strip()]
        return json.dumps({key: _typed(text, kind) for key, text, kind in rows}, ensure_ascii=False)

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return name not in data and f"{name}-name" not in data

    def repeated(self, data: Any, name: str) -> list[str]:
        """Return the names that several rows have."""
        names = [key.strip() for key in data.getlist(f"{name}-name") if key.strip()] if hasattr(data, "getlist") else []
        return sorted({key for key in names if names.count(key) > 1})


def _shown(item: Any) -> str:
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)


def _readable(text: str) -> str:
    """Return a text as a page can send it. Half a surrogate pair, which is refused, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _typed(text: str, kind: str) -> Any:
    if kind != "json":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
