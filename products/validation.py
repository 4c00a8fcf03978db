"""Validate a product's fields, for uploads, the API, the admin and imports alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.forms.models import model_to_dict
from django.utils.translation import gettext as _

from products.models import Product

MAX_DESCRIPTION_LENGTH = 20_000  # characters
TEXT_FIELDS = ("sku", "name", "category", "description", "gtin", "mpn", "brand", "currency")
_GTIN = re.compile(r"\d[\d \-]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


def normalize_field(name: str, value: Any) -> Any:
    """Return a product's field as it is stored: no outer spaces, a GTIN as digits, a currency in capitals."""
    if not isinstance(value, str):
        return value
    value = value.strip()
    if name == "gtin" and _GTIN.fullmatch(value):
        return re.sub(r"[ \-]", "", value)
    return value.upper() if name == "currency" else value


def is_encodable(text: str) -> bool:
    """Return whether UTF-8 can hold the text. It cannot hold half a surrogate pair."""
    return _SURROGATE.search(text) is None


def validate_product(product: Product) -> None:
    """Raise ValidationError, by field, for a product that cannot be stored."""
    product.clean_fields()
    validate_fields(model_to_dict(product))


def validate_fields(fields: Mapping[str, Any]) -> None:
    """Check texts of a product for what its columns cannot express. Raises ValidationError.

    The attributes check themselves, see ``products.attributes``.
    """
    errors: dict[str, ValidationError] = {}
    for name in TEXT_FIELDS:
        text = fields.get(name, "")
        if "\0" in text:
            errors[name] = ValidationError(_("Null characters are not allowed."), code="null_characters_not_allowed")
        elif not is_encodable(text):
            errors[name] = ValidationError(_("The text must be valid Unicode."), code="invalid")
    if len(fields.get("description", "")) > MAX_DESCRIPTION_LENGTH:
        text = _("A description has at most %(limit)d characters.") % {"limit": MAX_DESCRIPTION_LENGTH}
        errors["description"] = ValidationError(text, code="max_length")
    if errors:
        raise ValidationError(errors)
