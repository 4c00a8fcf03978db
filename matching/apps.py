"""Django configuration of the matching app: connects signals and installs the triggers of the change log."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class MatchingConfig(AppConfig):
    name = "matching"
    verbose_name = "Matching"

    def ready(self) -> None:
        from core.sqlite import statistics
        from matching import signals  # noqa: F401  (connects the receivers)
        from matching.index import changes

        post_migrate.connect(changes.install_triggers, sender=self)
        post_migrate.connect(statistics.analyze_after_migrate, sender=self)
