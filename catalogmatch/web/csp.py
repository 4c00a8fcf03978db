"""Content security policies. Pages run only our own scripts, and all other responses run nothing."""

from __future__ import annotations

from typing import Any

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest
from django.http.response import HttpResponseBase

# For JSON, images and metrics, which load nothing and belong in no frame.
DENY_ALL: dict[str, list[str]] = {
    "default-src": [NONE],
    "base-uri": [NONE],
    "form-action": [NONE],
    "frame-ancestors": [NONE],
}

# For django-unfold's pages. Alpine.js evaluates expressions in attributes ('unsafe-eval'), and progress bars and menus
# have style attributes. Inline scripts never run, so injected markup cannot run one either.
ADMIN_POLICY = DENY_ALL | {
    "script-src": [SELF, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
    "img-src": [SELF, "data:", "blob:"],
    "font-src": [SELF],
    "connect-src": [SELF],
    "form-action": [SELF],
}

# Error pages outside the admin have a style sheet.
ERROR_PAGE_POLICY = DENY_ALL | {"style-src": [SELF]}

_BY_PREFIX = {"/admin/": ADMIN_POLICY, "/api/docs": ADMIN_POLICY}


class PolicyMiddleware(CSPMiddleware):
    """Choose the policy by path and error status. The default is ``settings.CONTENT_SECURITY_POLICY``."""

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if not report_only:
            parts.config = _policy_of_path(request.path_info) or _policy_of_error(response)
        return parts


def _policy_of_path(path: str) -> dict[str, Any] | None:
    return next((policy for prefix, policy in _BY_PREFIX.items() if path.startswith(prefix)), None)


def _policy_of_error(response: HttpResponseBase) -> dict[str, Any] | None:
    is_html = response.headers.get("Content-Type", "").startswith("text/html")
    return ERROR_PAGE_POLICY if is_html and response.status_code >= 400 else None
