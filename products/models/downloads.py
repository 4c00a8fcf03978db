"""Images that are still to be fetched from their addresses, and what servers said about those that were."""

from __future__ import annotations

from django.db import models
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from products.models.imports import Import


class ImageDownload(models.Model):
    """An image of a row that is fetched from an address, and the row's fields for a product that does not exist yet."""

    class State(models.TextChoices):
        PENDING = "pending", _("pending")
        CLAIMED = "claimed", _("being fetched")
        DONE = "done", _("fetched")
        FAILED = "failed", _("failed")

    UNFINISHED = (State.PENDING, State.CLAIMED)

    import_job = models.ForeignKey(
        Import, on_delete=models.SET_NULL, null=True, related_name="downloads", verbose_name=_("import")
    )
    key = models.CharField(_("key"), max_length=64)
    sku = models.CharField(_("SKU"), max_length=200)
    address = models.TextField(_("address"))
    host = models.CharField(_("host"), max_length=255)
    row_number = models.PositiveIntegerField(_("row"))
    fields = models.JSONField(_("fields"), default=dict)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.PENDING)
    outcome = models.CharField(_("outcome"), max_length=20, blank=True, default="")
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    due_at = models.DateTimeField(_("due"), default=timezone.now)
    claim_token = models.UUIDField(_("claim"), null=True, blank=True)
    claimed_at = models.DateTimeField(_("claimed at"), null=True, blank=True)
    error_code = models.CharField(_("error code"), max_length=40, blank=True, default="")
    error_message = models.CharField(_("reason"), max_length=500, blank=True, default="")
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        db_table = "image_downloads"
        verbose_name = _("image to fetch")
        verbose_name_plural = _("images to fetch")
        ordering = ("-id",)
        indexes = [
            # The worker's claim, host by host: retries first, then those that have waited longest. Without a condition,
            # because SQLite uses no partial index for a bound parameter.
            models.Index("state", "host", F("attempts").desc(), "due_at", "id", name="image_download_turn"),
            # The claim: whether an earlier image of the same product is still to be fetched.
            models.Index(fields=["sku", "state", "id"], name="image_download_sku"),
            # The page of an import.
            models.Index(fields=["import_job", "state", "outcome", "id"], name="image_download_import"),
            # An import that asks for the same image again.
            models.Index(fields=["key"], name="image_download_key"),
        ]

    def __str__(self) -> str:
        return f"{self.sku}: {self.address}"


class FetchedAddress(models.Model):
    """What a server said about an address, and the hash of what it sent."""

    key = models.CharField(_("SHA-256 of the address"), max_length=64, primary_key=True)
    etag = models.CharField(_("ETag"), max_length=500, blank=True, default="")
    last_modified = models.CharField(_("Last-Modified"), max_length=100, blank=True, default="")
    sha256 = models.CharField(_("SHA-256 of the file"), max_length=64)
    fetched_at = models.DateTimeField(_("fetched"), default=timezone.now)

    class Meta:
        db_table = "fetched_addresses"
        verbose_name = _("fetched address")
        verbose_name_plural = _("fetched addresses")

    def __str__(self) -> str:
        return self.key
