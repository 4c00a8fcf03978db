"""Let monitors reach the health checks and metrics by address, without the site's name."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponsePermanentRedirect
from django.middleware.common import CommonMiddleware


class HostMiddleware(CommonMiddleware):
    """Check the host name of every request except those of probes, whose responses name no host."""

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        if request.path_info in settings.PROBE_PATHS:
            return None
        return super().process_request(request)
