"""Content security policy: pages run our own scripts only, everything else may do nothing at all in a browser."""

from __future__ import annotations

from typing import Any

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest
from django.http.response import HttpResponseBase

# JSON, pictures, numbers: nothing to load and nobody to frame it.
DENY_ALL: dict[str, list[str]] = {
    "default-src": [NONE],
    "base-uri": [NONE],
    "form-action": [NONE],
    "frame-ancestors": [NONE],
}

# django-unfold's pages: Alpine.js evaluates the expressions in their attributes ('unsafe-eval'), and bars and
# menus have style attributes. No inline script runs, so markup that slipped through escaping runs none either.
ADMIN_POLICY = DENY_ALL | {
    "script-src": [SELF, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
    "img-src": [SELF, "data:", "blob:"],
    "font-src": [SELF],
    "connect-src": [SELF],
    "form-action": [SELF],
}

# The OpenAPI page needs no eval.
DOCS_POLICY = ADMIN_POLICY | {"script-src": [SELF], "img-src": [SELF, "data:"]}

# What went wrong outside of the admin is told on a page too, which has a style sheet.
ERROR_PAGE_POLICY = DENY_ALL | {"style-src": [SELF]}

_BY_PREFIX = {"/admin/": ADMIN_POLICY, "/api/docs": DOCS_POLICY}


class PolicyMiddleware(CSPMiddleware):
    """Chooses the policy by path; all others have ``settings.CONTENT_SECURITY_POLICY`` (NOTHING), error pages ERROR."""

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if not report_only:
            parts.config = _policy_for(request.path_info) or _policy_of(response)
        return parts


def _policy_for(path: str) -> dict[str, Any] | None:
    return next((policy for prefix, policy in _BY_PREFIX.items() if path.startswith(prefix)), None)


def _policy_of(response: HttpResponseBase) -> dict[str, Any] | None:
    html = response.headers.get("Content-Type", "").startswith("text/html")
    return ERROR_PAGE_POLICY if html and response.status_code >= 400 else None
