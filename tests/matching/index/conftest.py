"""Each search engine's own tests run where it is in use; what both promise runs on both databases."""

from django.conf import settings

_POSTGRES = settings.DATABASES["default"]["ENGINE"].endswith("postgresql")
collect_ignore = ["test_main_segment.py"] if _POSTGRES else ["test_pgvector.py"]
