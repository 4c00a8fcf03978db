"""The demo: a catalogue, people and a token to try everything with, in a database of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.core.management import call_command

from catalogmatch.accounts.tokens import create_token
from core.progress import progress_bar
from gpu.encoders.registry import clip_status
from matching import batch
from products.demo.catalogue import load_demo
from products.models import Product
from products.queue import claims
from products.tasks import held_back

ADMIN, PASSWORD = "admin", "demo"  # known to all: the demo listens on this computer alone
API_USER = "demo"
TOKEN_DAYS = 30


class NotADemoError(Exception):
    """The database holds somebody's own catalogue, which must not get a user with a known password."""

    code = "not_a_demo"


@dataclass(frozen=True, slots=True)
class Demo:
    """What to try it with. ``password``: None when somebody gave the admin another one; ``without_clip``: why."""

    password: str | None
    token: str
    without_clip: str | None


def prepare(check: Callable[[], None]) -> Demo:
    """Migrate, draw the catalogue where there is none, embed and match it, and make the users.

    Running it again goes on where it stopped and changes nothing that is there. ``check`` is called between
    the steps' parts and may raise to stop. Raises NotADemoError for a catalogue that it did not make.
    """
    call_command("migrate", interactive=False, verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    if Product.objects.exists() and not User.objects.filter(username=API_USER).exists():
        raise NotADemoError(
            "This database holds a catalogue that is not the demo's. "
            "Set CATALOGMATCH_DATA_DIR to another folder to look at the demo."
        )
    token = create_token(API_USER, "manager", days=TOKEN_DAYS)
    _draw(check)
    claims.release_stale_claims()
    claims.requeue("missing")  # CLIP may have come since the last run
    batch.embed_waiting(check)
    batch.match_unmatched(check)
    admin, created = User.objects.get_or_create(username=ADMIN, defaults={"is_staff": True, "is_superuser": True})
    if created:
        admin.set_password(PASSWORD)
        admin.save()
    return Demo(PASSWORD if admin.check_password(PASSWORD) else None, token, clip_status().reason)


def _draw(check: Callable[[], None]) -> None:
    with progress_bar(None, "Drawing", "products") as bar, held_back():

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
            check()

        load_demo(progress)
