"""Validate a product's fields, for uploads, the API, the admin and imports alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.forms.models import model_to_dict
from django.utils.translation import gettext as _

from products.models import Product

MAX_DESCRIPTION_LENGTH = 20_000  # characters


def validate_product(product: Product) -> None:
    """Raise ValidationError, by field, for a product that cannot be stored."""
    product.clean_fields()
    validate_fields(model_to_dict(product))


def validate_fields(fields: Mapping[str, Any]) -> None:
    """Check fields of a product for what its columns allow. Raises ValidationError."""
    errors: dict[str, ValidationError] = {}
    for name in ("sku", "name", "category", "description"):
        if "\0" in fields.get(name, ""):
            errors[name] = ValidationError(_("Null characters are not allowed."), code="null_characters_not_allowed")
    if len(fields.get("description", "")) > MAX_DESCRIPTION_LENGTH:
        text = _("A description has at most %(limit)d characters.") % {"limit": MAX_DESCRIPTION_LENGTH}
        errors["description"] = ValidationError(text, code="max_length")
    try:
        _check_attributes(fields.get("attributes", {}))
    except ValidationError as error:
        errors["attributes"] = error
    if errors:
        raise ValidationError(errors)


def _check_attributes(attributes: Any) -> None:
    if not isinstance(attributes, dict):
        raise ValidationError(_('Attributes are names and values, such as {"colour": "blue"}.'), code="invalid")
    try:
        text = json.dumps(attributes, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # a lone surrogate: JSON can write it, UTF-8 cannot
        raise ValidationError(_("Attributes must be valid Unicode."), code="invalid") from error
    if b"\\u0000" in text.replace(b"\\\\", b""):  # An escaped backslash before u0000 is plain text.
        raise ValidationError(_("Null characters are not allowed."), code="null_characters_not_allowed")
