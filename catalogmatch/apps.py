"""Django configuration of the project. Every ``migrate`` updates the roles."""

from django.apps import AppConfig, apps
from django.contrib.admin import apps as admin_apps
from django.core import checks
from django.db.models.signals import post_migrate


class ProjectConfig(AppConfig):
    name = "catalogmatch"
    verbose_name = "CatalogMatch"

    def ready(self) -> None:
        from catalogmatch.accounts.roles import create_roles
        from catalogmatch.operations.permissions import check_permissions

        # Django sends the signal for apps with models only, and this app has none.
        post_migrate.connect(create_roles, sender=apps.get_app_config("auth"))
        checks.register(check_permissions, checks.Tags.security)


class CatalogAdminConfig(admin_apps.AdminConfig):
    default = False  # named in the settings
    default_site = "catalogmatch.site.CatalogSite"
