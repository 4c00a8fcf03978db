"""Django configuration of the project itself: its roles are kept up to date by every migration."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ProjectConfig(AppConfig):
    name = "catalogmatch"
    verbose_name = "CatalogMatch"

    def ready(self) -> None:
        from catalogmatch.roles import create_roles

        post_migrate.connect(create_roles, sender=self)
