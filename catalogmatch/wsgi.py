"""WSGI entry point of the web process."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "catalogmatch.settings")
django.setup(set_prefix=False)

from catalogmatch.web.requests import UnicodeHandler  # noqa: E402  # needs the settings

application = UnicodeHandler()
