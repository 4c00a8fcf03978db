"""Django configuration of the accounts."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "catalogmatch.accounts"
    label = "accounts"

    def ready(self) -> None:
        from catalogmatch.accounts import signals

        signals.connect()
