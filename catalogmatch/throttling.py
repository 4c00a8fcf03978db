"""How often one user or address may call; keeps counting when the shared cache is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.cache import caches
from rest_framework.throttling import SimpleRateThrottle, UserRateThrottle

from products import broker

if TYPE_CHECKING:  # the views' module itself looks up its throttles here
    from rest_framework.request import Request
    from rest_framework.views import APIView


class OutageProofThrottle(SimpleRateThrottle):
    """While Redis does not answer, each process counts for itself: an upload is not refused for want of a counter."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        try:
            with broker.asked():
                return super().allow_request(request, view)
        except broker.BrokerAwayError:
            self.cache = caches["process"]
            return super().allow_request(request, view)


class ApiThrottle(OutageProofThrottle, UserRateThrottle):
    """The API's limit for one user."""
