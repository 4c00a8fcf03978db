"""The API's error responses: application/problem+json (RFC 9457) with a stable code."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import DataError
from django.http import JsonResponse, UnreadablePostError
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from drf_standardized_errors.formatter import ExceptionFormatter
from drf_standardized_errors.handler import ExceptionHandler
from drf_standardized_errors.handler import exception_handler as standard_handler
from drf_standardized_errors.types import ErrorResponse, ExceptionHandlerContext
from rest_framework.decorators import api_view, permission_classes
from rest_framework.exceptions import APIException, NotFound, ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import as_serializer_error

from core.disk import NoRoomError
from core.outages import outage_of
from gpu.encoders.registry import ClipUnavailableError
from gpu.imaging.errors import ImageProcessingError
from gpu.text.files import TextUnavailableError
from matching.index import SearchVectorError
from matching.models import Decision, Match
from matching.review.decisions import ConflictError
from products.api.etags import ETagMismatchError
from products.images.intake import SkuExistsError
from products.merges import MovedError
from products.models import Product, ProductMerge
from products.queue.query_features import FeaturesPendingError

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"

# The statuses of the codes that DRF does not define.
STATUS_OF_CODE = {
    "not_an_image": 415,
    "unsupported_format": 415,
    "image_corrupt": 422,
    "image_too_large": 413,
    "image_too_small": 422,
    "image_aspect": 422,
    "sku_exists": 409,
    "features_pending": 409,
    "clip_unavailable": 503,
    "text_unavailable": 503,
    "search_vector_invalid": 409,
    "request_incomplete": 408,
    "stale": 409,
    "already_decided": 409,
}

# DRF distinguishes more codes than the API publishes.
PUBLISHED_CODE = {"authentication_failed": "not_authenticated", "parse_error": "validation_error"}


class ApiProblem(APIException):
    """An expected failure. ``status`` overrides the usual status of the code."""

    def __init__(
        self, code: str, message: str, status: int | None = None, details: dict[str, Any] | None = None
    ) -> None:
        self.status_code = status or STATUS_OF_CODE[code]
        self.details = details or {}  # further members of the problem document
        super().__init__(message, code)


class ProblemHandler(ExceptionHandler):
    def convert_known_exceptions(self, exc: Exception) -> Exception:
        if isinstance(exc, ImageProcessingError):
            return ApiProblem(exc.code, exc.message)
        if isinstance(exc, (SkuExistsError, SearchVectorError, ClipUnavailableError, TextUnavailableError)):
            return ApiProblem(exc.code, str(exc))
        if isinstance(exc, ConflictError):
            return ApiProblem(exc.code, str(exc), exc.status, exc.details)
        if isinstance(exc, ETagMismatchError):
            return ApiProblem(exc.code, str(exc), 412)
        if isinstance(exc, FeaturesPendingError):
            return ApiProblem(exc.code, str(exc), status=503 if exc.waited else None)
        if isinstance(exc, DjangoValidationError):
            return ValidationError(as_serializer_error(exc))
        if isinstance(exc, ProductMerge.DoesNotExist):
            return NotFound("No product with this id was merged.")
        if isinstance(exc, Decision.DoesNotExist):
            return NotFound("This case has no decision.")
        if isinstance(exc, (Product.DoesNotExist, Match.DoesNotExist)):
            return NotFound("There is no such product or match. It may have been deleted.")
        if isinstance(exc, UnreadablePostError):  # the client disconnected or was too slow
            return ApiProblem("request_incomplete", "The request ended before its whole body arrived. Send it again.")
        if outage := outage_of(exc):
            return ApiProblem(outage.code, str(outage.detail), outage.status)
        if isinstance(exc, DataError):
            return ValidationError("A value of the request is too large for the database.")
        if isinstance(exc, RequestDataTooBig):
            return ApiProblem("image_too_large", str(exc))
        if isinstance(exc, SuspiciousOperation):  # more files or fields than a request may have
            return ValidationError(str(exc))
        return super().convert_known_exceptions(exc)

    def report_exception(self, exc: APIException, response: Response) -> None:
        """Log expected refusals in one line, because many can follow each other."""
        if isinstance(self.exc, (NoRoomError, TextUnavailableError)):
            logger.warning("%s: %s", self.exc.code, self.exc)
        else:
            super().report_exception(exc, response)


def _problem_document(status: int, code: str, detail: str) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }


def problem_response(status: int, code: str, detail: str) -> JsonResponse:
    """Return a problem document for code that runs outside the API's views."""
    return JsonResponse(_problem_document(status, code, detail), status=status, content_type=CONTENT_TYPE)


class ProblemFormatter(ExceptionFormatter):
    def format_error_response(self, error_response: ErrorResponse) -> dict[str, Any]:
        errors = error_response.errors
        status = self.exc.status_code
        invalid = error_response.type == "validation_error"
        code = "validation_error" if invalid else errors[0].code
        detail = "; ".join(f"{e.attr}: {e.detail}" if e.attr else str(e.detail) for e in errors)
        problem = _problem_document(status, PUBLISHED_CODE.get(code, code), detail)
        problem |= getattr(self.exc, "details", {})
        if invalid:
            problem["errors"] = [{"field": e.attr, "code": e.code, "detail": e.detail} for e in errors]
        return problem


def exception_handler(exc: Exception, context: ExceptionHandlerContext) -> Response | None:
    """Return a problem document for ``exc``. An unexpected error is logged and becomes a 500 without details."""
    if isinstance(exc, MovedError):
        # Not to be remembered, because a merge can be undone.
        headers = {"Location": reverse("product-detail", args=[exc.product_id]), "Cache-Control": "no-store"}
        return Response({"product_id": exc.product_id, "detail": str(exc)}, status=308, headers=headers)
    response = standard_handler(exc, context)
    if response is not None:
        response.content_type = CONTENT_TYPE
    return response


@extend_schema(exclude=True)
@api_view(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
@permission_classes([AllowAny])
def not_found(_request: Request, rest: str = "") -> Response:
    """Respond to unknown addresses below /api/ with a problem document."""
    raise NotFound(f"There is no address /api/{rest}. See /api/docs.")
