"""Tables of the decisions on deleted products. They wait here until the product is imported again."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class DeletedProduct(models.Model):
    """A deleted product on which something was decided, by its former id, and how to recognise it."""

    former_id = models.BigIntegerField(_("former id"), primary_key=True)
    sku = models.CharField(_("SKU"), max_length=200, blank=True, default="")
    is_historical = models.BooleanField(_("historical"), default=False)
    deleted_at = models.DateTimeField(_("deleted"))

    class Meta:
        db_table = "deleted_products"
        verbose_name = _("deleted product with decisions")
        verbose_name_plural = _("deleted products with decisions")
        indexes = [
            models.Index(fields=["sku"], name="deleted_product_sku"),
            models.Index(fields=["deleted_at"], name="deleted_product_age"),
        ]

    def __str__(self) -> str:
        return self.sku or f"#{self.former_id}"


class DeletedImage(models.Model):
    """The hash of an image of a deleted product."""

    product = models.ForeignKey(DeletedProduct, on_delete=models.CASCADE, related_name="images")
    sha256 = models.CharField(_("SHA-256 of the uploaded file"), max_length=64)

    class Meta:
        db_table = "deleted_images"
        verbose_name = _("image of a deleted product")
        verbose_name_plural = _("images of deleted products")
        indexes = [models.Index(fields=["sha256"], name="deleted_image_sha256")]

    def __str__(self) -> str:
        return self.sha256


class KeptVerdict(models.Model):
    """A match with a verdict or a note, of which at least one product is deleted. Columns as in Match."""

    former_id = models.BigIntegerField(_("former id"), primary_key=True)
    # Ids of products or of deleted ones, so without a constraint.
    product_id = models.BigIntegerField(_("new product"), db_index=True)
    candidate_id = models.BigIntegerField(_("candidate"), db_index=True)
    similarity_score = models.FloatField(_("score"))
    feature_type = models.CharField(_("feature type"), max_length=10)
    model_name = models.CharField(_("model"), max_length=200)
    rank = models.PositiveIntegerField(_("rank"))
    review_status = models.CharField(_("verdict"), max_length=10)
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name=_("reviewer")
    )
    reviewed_at = models.DateTimeField(_("reviewed"), null=True)
    note = models.TextField(_("note"), blank=True, default="")

    class Meta:
        db_table = "kept_verdicts"
        verbose_name = _("verdict on a deleted product")
        verbose_name_plural = _("verdicts on deleted products")

    def __str__(self) -> str:
        return f"{self.product_id} → {self.candidate_id}: {self.review_status}"


class KeptDecision(models.Model):
    """The decision on the case of a deleted product. Columns as in Decision."""

    former_id = models.BigIntegerField(_("former id"), primary_key=True)
    product_id = models.BigIntegerField(_("new product"), unique=True)
    kind = models.CharField(_("decision"), max_length=10)
    candidates = models.JSONField(_("candidates"), default=list)
    differs = models.CharField(_("differs in"), max_length=200, blank=True, default="")
    reason = models.CharField(_("reason"), max_length=200, blank=True, default="")
    note = models.TextField(_("note"), blank=True, default="")
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name=_("reviewer")
    )
    decided_at = models.DateTimeField(_("decided"))
    version = models.CharField(_("version of the case"), max_length=32, blank=True, default="")
    shown = models.JSONField(_("candidates at that time"), default=list)
    settled = models.JSONField(_("settled matches"), default=list)

    class Meta:
        db_table = "kept_decisions"
        verbose_name = _("decision on a deleted product")
        verbose_name_plural = _("decisions on deleted products")

    def __str__(self) -> str:
        return f"{self.product_id}: {self.kind}"
