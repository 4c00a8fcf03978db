"""Django configuration of the gpu app."""

from django.apps import AppConfig


class GpuConfig(AppConfig):
    name = "gpu"
    verbose_name = "Device and model"
