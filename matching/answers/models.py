"""Evidence that a reviewer marked as wrong."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from core.history.recording import AuditTrail
from products.models import Product


class EvidenceMark(models.Model):
    """A kind of evidence that is wrong about a pair of products, or about a product beside any other.

    Answers are computed without it from then on.
    """

    product = models.ForeignKey(
        Product, on_delete=models.CASCADE, related_name="evidence_marks", verbose_name=_("product")
    )
    candidate = models.ForeignKey(
        Product, on_delete=models.CASCADE, null=True, related_name="+", verbose_name=_("candidate"),
        help_text=_("Empty: beside any product."),
    )  # fmt: skip
    kind = models.CharField(_("kind of evidence"), max_length=40)
    text = models.CharField(_("evidence"), max_length=500, blank=True, default="")
    marked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name=_("reviewer")
    )
    marked_at = models.DateTimeField(_("marked"))
    history = AuditTrail("evidence_mark_history", excluded_fields=("marked_by", "marked_at"))

    class Meta:
        db_table = "evidence_marks"
        verbose_name = _("wrong evidence")
        verbose_name_plural = _("wrong evidence")
        constraints = [
            models.UniqueConstraint(
                fields=["product", "candidate", "kind"], condition=Q(candidate__isnull=False), name="mark_once_per_pair"
            ),
            models.UniqueConstraint(
                fields=["product", "kind"], condition=Q(candidate__isnull=True), name="mark_once_per_product"
            ),
        ]

    def __str__(self) -> str:
        return self.text or self.kind
