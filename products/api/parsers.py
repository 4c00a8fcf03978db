"""Parsers of the API's request bodies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser
from rest_framework.utils.json import strict_constant

from core.database.bounded_json import BoundedJSONDecoder


class BoundedJSONParser(JSONParser):
    """Parse JSON, and refuse deep nesting as a user's error."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        encoding = (parser_context or {}).get("encoding", settings.DEFAULT_CHARSET)
        try:
            text = stream.read().decode(encoding)
            return json.loads(text, cls=BoundedJSONDecoder, parse_constant=strict_constant)
        except (ValueError, LookupError) as error:
            raise ParseError(f"JSON parse error - {error}") from error
