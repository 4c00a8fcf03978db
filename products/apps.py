"""Django configuration of the products app; connects its signals and keeps the constraint on stored vectors."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ProductsConfig(AppConfig):
    name = "products"
    verbose_name = "Catalogue"

    def ready(self) -> None:
        from products import constraints, signals  # noqa: F401  (connects the receivers)

        post_migrate.connect(constraints.on_migrated, sender=self)
