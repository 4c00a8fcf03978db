"""Django configuration of the matching app; connects the signals that match new products."""

from django.apps import AppConfig


class MatchingConfig(AppConfig):
    name = "matching"
    verbose_name = "Matching"

    def ready(self) -> None:
        from matching import signals  # noqa: F401  (connects the receivers)
