"""URL routes of the project."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView

from catalogmatch.api.documentation import DocumentationView
from catalogmatch.api.errors import not_found
from catalogmatch.operations import health
from catalogmatch.operations.metrics import metrics
from catalogmatch.web.media import MediaView

admin.autodiscover()  # here, because only the URLs need the pages of the admin

api: list[URLPattern | URLResolver] = [
    path("", include("gpu.urls")),
    path("", include("products.api.urls")),
    path("", include("matching.api.urls")),
    path("schema", SpectacularAPIView.as_view(), name="schema"),
    path("docs", DocumentationView.as_view(), name="docs"),
    path("", not_found),
    path("<path:rest>", not_found),
]

handler403 = "catalogmatch.web.error_pages.permission_denied"
handler404 = "catalogmatch.web.error_pages.page_not_found"
handler500 = "core.outages.server_error"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("api/", include(api)),
    re_path(
        r"^media/(?P<path>(?:pictures|thumbnails)/[0-9a-f]{2}/[0-9a-f]{32}\.jpg)$", MediaView.as_view(), name="media"
    ),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", metrics),
    path("admin/", admin.site.urls),
]
