"""Configure the products app: connect signals and install database triggers."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ProductsConfig(AppConfig):
    name = "products"
    verbose_name = "Catalogue"

    def ready(self) -> None:
        from products import signals  # noqa: F401  (connects the receivers)
        from products.models import triggers
        from products.text import trigrams

        post_migrate.connect(triggers.install_triggers, sender=self)
        post_migrate.connect(trigrams.install, sender=self)
