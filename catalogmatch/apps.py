"""Django configuration of the project. Every ``migrate`` updates the roles."""

from typing import Any

from django.apps import AppConfig, apps
from django.contrib import admin
from django.contrib.admin import apps as admin_apps
from django.contrib.admin.checks import check_admin_app, check_dependencies
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


class CatalogAdminConfig(admin_apps.SimpleAdminConfig):
    """The admin, whose pages are loaded with the URLs. Workers and most commands do without them."""

    default = False  # named in the settings
    default_site = "catalogmatch.site.CatalogSite"

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(_check_admin_pages, checks.Tags.admin)


def _check_admin_pages(app_configs: Any, **options: Any) -> list[checks.CheckMessage]:
    """Load the pages before Django checks them."""
    admin.autodiscover()
    return check_admin_app(app_configs, **options)
