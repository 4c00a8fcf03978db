"""Set up the demo in a database of its own: catalogue, embeddings, matches, users and an API token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.core.management import call_command

from catalogmatch.accounts.tokens import create_token
from catalogmatch.demo.catalogue import load_demo
from core.progress import progress_bar
from gpu.encoders.registry import clip_status
from products.models import Product
from products.queue import bulk, claims
from products.tasks import notifications_suspended

ADMIN, PASSWORD = "admin", "demo"  # public on purpose: the demo listens on 127.0.0.1 only
API_USER = "demo"
TOKEN_DAYS = 30


class NotADemoError(Exception):
    """The database has a real catalogue, which must not get a user with a public password."""

    code = "not_a_demo"


@dataclass(frozen=True, slots=True)
class Demo:
    """What a user needs to try the demo.

    ``password`` is None if the admin's password was changed. ``without_clip`` is the reason why CLIP is not used.
    """

    password: str | None
    token: str
    without_clip: str | None


def prepare(check: Callable[[], None]) -> Demo:
    """Migrate, load the catalogue, embed and match it, and create the users.

    Running it again continues an interrupted run and changes nothing that exists. ``check`` is called between
    products and batches, and may raise to stop. Raises NotADemoError for a catalogue that is not the demo's.
    """
    call_command("migrate", interactive=False, verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    if Product.objects.exists() and not User.objects.filter(username=API_USER).exists():
        raise NotADemoError(
            "This database has a catalogue that is not the demo's. "
            "Set CATALOGMATCH_DATA_DIR to another folder to try the demo."
        )
    token = create_token(API_USER, "manager", days=TOKEN_DAYS)
    _load(check)
    claims.release_stale_claims()
    claims.requeue("missing")  # the CLIP weights may be new since the last run
    bulk.embed_pending_images(check)
    bulk.follow_up(check)
    admin, created = User.objects.get_or_create(username=ADMIN, defaults={"is_staff": True, "is_superuser": True})
    if created:
        admin.set_password(PASSWORD)
        admin.save()
    return Demo(PASSWORD if admin.check_password(PASSWORD) else None, token, clip_status().reason)


def _load(check: Callable[[], None]) -> None:
    with progress_bar(None, "Loading", "products") as bar, notifications_suspended():

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
            check()

        load_demo(progress)
