"""Django configuration of the gpu app."""

from django.apps import AppConfig
from django.conf import settings

from gpu.imaging.limits import JPEG


class GpuConfig(AppConfig):
    name = "gpu"
    verbose_name = "Device and model"

    def ready(self) -> None:
        JPEG.configure(settings.JPEG_MAX_BYTES, settings.JPEG_MAX_PIXELS)
