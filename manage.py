#!/usr/bin/env python
"""Run CatalogMatch's management commands."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "catalogmatch.settings")
    from django.core.management import execute_from_command_line

    from core import outages

    try:
        execute_from_command_line(sys.argv)
    except Exception as error:
        text = None if "--traceback" in sys.argv else outages.explain(error)
        if text is None:
            raise
        sys.exit(f"CommandError: {text}")


if __name__ == "__main__":
    main()
