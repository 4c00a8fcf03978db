"""URLs of the device and model endpoints, below /api/."""

from django.urls import path

from gpu.api import ClipInfoView, GpuStatusView

urlpatterns = [
    path("gpu/status", GpuStatusView.as_view(), name="gpu-status"),
    path("clip/info", ClipInfoView.as_view(), name="clip-info"),
]
