"""Collect the tests of an engine only on its database. Tests of both engines run on both."""

from django.conf import settings

_POSTGRES = settings.DATABASES["default"]["ENGINE"].endswith("postgresql")
collect_ignore = ["test_main_segment.py"] if _POSTGRES else ["test_pgvector.py"]
