"""Addresses of the device's and the model's API, below /api/."""

from django.urls import path

from gpu.api import ClipInfoView, GpuStatusView

urlpatterns = [
    path("gpu/status", GpuStatusView.as_view(), name="gpu-status"),
    path("clip/info", ClipInfoView.as_view(), name="clip-info"),
]
