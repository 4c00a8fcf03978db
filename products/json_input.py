"""JSON that a client sent: what Python cannot read is invalid, and no error of the server."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser


class InputDecoder(json.JSONDecoder):
    """Raises JSONDecodeError also for nesting and numbers that Python refuses."""

    def decode(self, s: str, *args: Any) -> Any:
        try:
            return super().decode(s, *args)
        except (ValueError, RecursionError) as error:  # the first for numbers of over 4,300 digits
            raise json.JSONDecodeError(str(error), s[:100], 0) from error


class InputField(forms.JSONField):
    """JSON in a form."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"decoder": InputDecoder})


class InputParser(JSONParser):
    """JSON in the body of an API request."""

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().parse(*args, **kwargs)
        except RecursionError as error:
            raise ParseError("The JSON is nested too deeply.") from error
