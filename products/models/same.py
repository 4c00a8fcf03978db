"""Products that are the same: links between them, and merges of one into another."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from products.models.catalogue import Product


class SameAs(models.Model):
    """A product was decided to be the same as a catalogue product. The decision makes and removes the link."""

    product = models.ForeignKey(
        Product, on_delete=models.CASCADE, related_name="same_as_links", verbose_name=_("product")
    )
    other = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="+", verbose_name=_("the same as"))

    class Meta:
        db_table = "same_as"
        verbose_name = _("link to the same product")
        verbose_name_plural = _("links to the same product")
        ordering = ("other_id",)
        constraints = [models.UniqueConstraint(fields=["product", "other"], name="same_as_once")]

    def __str__(self) -> str:
        return f"{self.product_id} = {self.other_id}"


class ProductMerge(models.Model):
    """A product that was merged into another. Its id and SKU lead to that one until the merge is undone."""

    old_id = models.BigIntegerField(_("id of the merged product"), unique=True)
    old_sku = models.CharField(_("SKU of the merged product"), max_length=200, blank=True, default="")
    kept = models.ForeignKey(
        Product, on_delete=models.CASCADE, related_name="merges", verbose_name=_("product that was kept")
    )
    merged_at = models.DateTimeField(_("merged"))
    merged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+",
        verbose_name=_("merged by"),
    )  # fmt: skip
    before = models.JSONField(_("what both were before"), default=dict, editable=False)

    class Meta:
        db_table = "product_merges"
        verbose_name = _("merge")
        verbose_name_plural = _("merges")
        ordering = ("-merged_at", "-id")
        # Imports and uploads of the old SKU.
        indexes = [models.Index(fields=["old_sku"], name="merge_old_sku")]

    def __str__(self) -> str:
        return f"#{self.old_id} → #{self.kept_id}"
