"""demo: load and serve a small catalogue to try CatalogMatch with."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from catalogmatch.demo.setup import ADMIN, NotADemoError, prepare
from core.progress import EXIT_INTERRUPTED, interruptible


class Command(BaseCommand):
    help = "Load the demo catalogue if it is missing and serve it on 127.0.0.1:$PORT. Safe to run again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--no-serve", action="store_true", help="load the catalogue only")

    def handle(self, *, no_serve: bool, **_: Any) -> None:
        port = os.environ.get("PORT", "8000")
        if not port.isdecimal():
            raise CommandError(f"PORT must be a number, not {port!r}.")
        try:
            with interruptible() as check:
                ready = prepare(check)
        except NotADemoError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt as interrupt:
            raise CommandError("Stopped. Run it again to continue.", returncode=EXIT_INTERRUPTED) from interrupt
        url = f"http://127.0.0.1:{port}"
        password = ready.password or "(the password that you have set)"
        self.stdout.write(f"""
  CatalogMatch is ready.

  Open       {url}/admin/
  Sign in    {ADMIN} / {password}
  API        {url}/api/docs
  Token      {ready.token}
  Try        curl -H 'Authorization: Token {ready.token}' -F image=@IMAGE.jpg {url}/api/match
""")
        if ready.without_clip:
            self.stdout.write(
                f"  Images are compared by colour, shape and texture, without CLIP: {ready.without_clip}\n"
            )
        if not no_serve:
            _serve(port)


def _serve(port: str) -> None:
    """Replace this process with the web server, so that Ctrl-C ends all of it."""
    connections.close_all()
    sys.stdout.flush()
    os.chdir(settings.BASE_DIR)
    command = [sys.executable, "-m", "gunicorn", "--config", "catalogmatch/web/gunicorn_conf.py", "--workers", "1"]
    os.execvp(command[0], [*command, "--bind", f"127.0.0.1:{port}"])  # noqa: S606  # nosec B606 # a fixed command
