"""Django configuration of the products app; connects the signals that wake the worker."""

from django.apps import AppConfig


class ProductsConfig(AppConfig):
    name = "products"
    verbose_name = "Catalogue"

    def ready(self) -> None:
        from products import signals  # noqa: F401  (connects the receivers)
