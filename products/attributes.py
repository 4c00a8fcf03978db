"""The schema of a product's attributes, and how stored attributes that break it are read.

Older rows, and rows written with SQL, may break the schema. They are shown shortened. What is stored stays as it is
until new attributes replace it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.fields.json import KeyTransform
from django.utils.translation import gettext as _

from core.database.bounded_json import BoundedJSONDecoder, is_nested_deeper

MAX_NAME_LENGTH = 200  # characters
MAX_TEXT_LENGTH = 20_000  # characters of a value
MAX_DEPTH = 4  # levels of lists and objects; the attributes themselves are the first
MAX_ENTRIES = 500
MAX_BYTES = 64 * 2**10  # of all attributes of a product, as JSON in UTF-8

# What is shown of attributes that break the schema.
SHOWN_TEXT_LENGTH = 300
SHOWN_LENGTH = 16 * 2**10  # characters of all names and values
# A longer text is not parsed. ASCII escapes take up to six characters for a byte of UTF-8.
_PARSED_LENGTH = 6 * MAX_BYTES
_MARK = "…"

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}:,]', re.DOTALL)
_CUT_ESCAPE = re.compile(r"((?:^|[^\\])(?:\\\\)*)\\(?:u[0-9a-fA-F]{0,3})?\Z")


def clean_attributes(value: object) -> dict[str, Any]:
    """Return the attributes without empty ones. Raises ValidationError if they break the schema."""
    if not isinstance(value, dict):
        raise ValidationError(_('Attributes are names and values, such as {"colour": "blue"}.'), code="invalid")
    attributes = {name: entry for name, entry in value.items() if not _is_empty(entry)}
    if len(attributes) > MAX_ENTRIES:
        text = _("A product has at most %(limit)d attributes, and these are %(count)d.")
        raise ValidationError(text % {"limit": MAX_ENTRIES, "count": len(attributes)}, code="too_many_attributes")
    for name, entry in attributes.items():
        _check_entry(name, entry)
    try:
        data = json.dumps(attributes, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:  # a lone surrogate: JSON can write it, UTF-8 cannot
        raise ValidationError(_("Attributes must be valid Unicode."), code="invalid") from error
    except ValueError as error:
        raise ValidationError(_("Numbers in attributes must be finite."), code="invalid") from error
    if b"\\u0000" in data.replace(b"\\\\", b""):  # An escaped backslash before u0000 is plain text.
        raise ValidationError(_("Null characters are not allowed."), code="null_characters_not_allowed")
    if len(data) > MAX_BYTES:
        text = _("The attributes of a product have at most %(limit)d KiB, and these have %(size).1f KiB.")
        raise ValidationError(text % {"limit": MAX_BYTES // 2**10, "size": len(data) / 2**10}, code="max_length")
    return attributes


def merge_attributes(stored: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored attributes with these changes. Raises ValidationError.

    Stored attributes that break the schema cannot be merged, because only a part of them was read.
    """
    if isinstance(stored, ShortenedAttributes):
        text = _("The stored attributes are over the limits. Replace all of them on the product's page first.")
        raise ValidationError(text, code="invalid")
    return clean_attributes({**stored, **changes})


def parse_value(name: str, text: str) -> Any:
    """Return the JSON value of an attribute. Raises JSONDecodeError, and ValidationError for deep nesting."""
    if is_nested_deeper(text, MAX_DEPTH - 1):
        raise _nested_too_deeply(name)
    return json.loads(text, cls=BoundedJSONDecoder)


def _is_empty(entry: object) -> bool:
    return entry is None or (isinstance(entry, (str, list, dict)) and not entry)


def _check_entry(name: str, entry: object) -> None:
    """Check the lengths and the depth of one attribute. Raises ValidationError."""
    _check_name(name)
    level = [entry]
    for depth in count(2):
        for part in level:
            if isinstance(part, str) and len(part) > MAX_TEXT_LENGTH:
                text = _("The attribute %(name)s has %(length)d characters. The limit is %(limit)d.")
                values = {"name": name, "length": len(part), "limit": MAX_TEXT_LENGTH}
                raise ValidationError(text % values, code="max_length")
        containers = [part for part in level if isinstance(part, (dict, list))]
        if not containers:
            return
        if depth > MAX_DEPTH:
            raise _nested_too_deeply(name)
        level = []
        for part in containers:
            if isinstance(part, dict):
                for key in part:
                    _check_name(key)
            level += part.values() if isinstance(part, dict) else part


def _nested_too_deeply(name: str) -> ValidationError:
    text = _("The attribute %(name)s is nested too deeply. The limit is %(limit)d levels.")
    return ValidationError(text % {"name": name, "limit": MAX_DEPTH}, code="nested_too_deeply")


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME_LENGTH:
        text = _("The attribute name “%(name)s…” has %(length)d characters. The limit is %(limit)d.")
        values = {"name": name[:50], "length": len(name), "limit": MAX_NAME_LENGTH}
        raise ValidationError(text % values, code="max_length")


class ShortenedAttributes(dict[str, Any]):
    """What is shown of stored attributes that break the schema. ``text`` is the stored JSON."""

    def __init__(self, text: str) -> None:
        super().__init__(_shorten(text))
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShortenedAttributes) and other.text == self.text

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # as for every dict


def read_attributes(text: str) -> dict[str, Any]:
    """Return stored attributes, as ShortenedAttributes if they break the schema."""
    if len(text) <= _PARSED_LENGTH:
        try:
            value = json.loads(text, cls=BoundedJSONDecoder)
            clean_attributes(value)
        except (ValueError, ValidationError):
            pass
        else:
            attributes: dict[str, Any] = value
            return attributes
    return ShortenedAttributes(text)


def _shorten(text: str) -> dict[str, Any]:
    """Return the first entries of a JSON object of any size and depth, with their values cut."""
    shown: dict[str, Any] = {}
    room = SHOWN_LENGTH
    for name_json, value_json in _entries(text[:_PARSED_LENGTH]):
        name = _cut_string(name_json, MAX_NAME_LENGTH - 1)
        room -= len(name) + min(len(value_json), SHOWN_TEXT_LENGTH)
        if room < 0 or len(shown) >= MAX_ENTRIES - 1:
            break
        shown[name] = _shown_value(value_json)
    shown[_MARK] = _("These attributes are over the limits and shown shortened.")
    return shown


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name and value of each entry of a JSON object, as JSON. The last one may be cut off."""
    depth, name, start = 0, "", None
    for token in _TOKEN.finditer(text):
        first = text[token.start()]
        if first in "]},":
            depth -= first != ","
            if start is not None and depth == (1 if first == "," else 0):
                yield name, text[start : token.start()].strip()
                start = None
        elif first in "[{":
            depth += 1
        elif depth == 1 and first == ":":
            start = token.end()
        elif depth == 1 and start is None:
            name = token[0]
    if start is not None:
        yield name, text[start:].strip()


def _shown_value(value_json: str) -> Any:
    if value_json.startswith('"'):
        return _cut_string(value_json, SHOWN_TEXT_LENGTH)
    if len(value_json) <= SHOWN_TEXT_LENGTH:
        try:
            return clean_attributes({_MARK: json.loads(value_json, cls=BoundedJSONDecoder)}).get(_MARK)
        except (ValueError, ValidationError):
            return value_json
    return value_json[:SHOWN_TEXT_LENGTH] + _MARK


def _cut_string(string_json: str, limit: int) -> str:
    """Return the beginning of a JSON string, which may itself be cut off."""
    is_whole = len(string_json) > 1 and string_json.endswith('"')
    body = string_json[1:-1] if is_whole else string_json[1:]
    is_cut = len(body) > limit
    if is_cut:
        body = _CUT_ESCAPE.sub(r"\1", body[:limit])
    try:
        text = str(json.loads(f'"{body}"', strict=False))
    except ValueError:
        text = body
    text = text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text + _MARK if is_cut else text


class _StoredText(json.JSONEncoder):
    """Write shortened attributes as they are stored."""

    def encode(self, o: Any) -> str:
        return str(o.text)


class _FormField(forms.JSONField):
    def prepare_value(self, value: Any) -> Any:
        """Return the text to show. Half a surrogate pair, which no page can show, stays escaped."""
        text = super().prepare_value(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            return json.dumps(value)
        return text


class AttributesField(models.JSONField):
    """A JSON column with attributes that keep to the schema when they are cleaned.

    Reading never fails. A save keeps stored attributes that break the schema.
    """

    empty_values = ({},)  # None, "" and [] are no attributes

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        """Describe the column as a JSONField, so that no migration rebuilds the table."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs

    def clean(self, value: Any, model_instance: Any) -> Any:
        return value if isinstance(value, ShortenedAttributes) else clean_attributes(value)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        if isinstance(value, str) and not isinstance(expression, KeyTransform):
            return read_attributes(value)
        return super().from_db_value(value, expression, connection)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if not isinstance(value, ShortenedAttributes):
            return super().get_db_prep_value(value, connection, prepared)
        return connection.ops.adapt_json_value(value, _StoredText)

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(**{"form_class": _FormField, "decoder": BoundedJSONDecoder, **kwargs})
