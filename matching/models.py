"""A match: a product that was asked about, a candidate that was found, and what a person decided."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from core.deletion import BulkDeletable
from core.history.recording import AuditTrail
from matching.index.models import IndexChange
from products.models import Feature, Product

__all__ = ["IndexChange", "Match"]


class Match(BulkDeletable):
    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        CONFIRMED = "confirmed", _("confirmed")
        REJECTED = "rejected", _("rejected")

    product = models.ForeignKey(
        Product, on_delete=models.CASCADE, related_name="matches", verbose_name=_("product asked about")
    )
    candidate = models.ForeignKey(
        Product, on_delete=models.CASCADE, related_name="matched_by", verbose_name=_("candidate")
    )
    similarity_score = models.FloatField(_("score"))
    feature_type = models.CharField(_("feature type"), max_length=10, choices=Feature.Kind.choices)
    model_name = models.CharField(_("model"), max_length=200)
    rank = models.PositiveIntegerField(_("rank"))
    review_status = models.CharField(_("verdict"), max_length=10, choices=Status.choices, default=Status.PENDING)
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+",
        verbose_name=_("reviewer"),
    )  # fmt: skip
    reviewed_at = models.DateTimeField(_("reviewed"), null=True, blank=True)
    note = models.TextField(_("note"), blank=True, default="")
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)
    # What people decided. A match that the program finds, updates or drops is no entry.
    history = AuditTrail(
        "match_history",
        excluded_fields=(
            "feature_type", "model_name", "rank", "reviewer", "reviewed_at", "created_at", "updated_at",
        ),
        track_creation=False,
        context_fields=("similarity_score",),
    )  # fmt: skip

    class Meta:
        db_table = "matches"
        verbose_name = _("match")
        verbose_name_plural = _("matches")
        ordering = ("product", "rank", "id")
        constraints = [
            models.UniqueConstraint(fields=["product", "candidate"], name="match_once_per_pair"),
            models.CheckConstraint(
                condition=Q(similarity_score__gte=0, similarity_score__lte=100), name="match_score_0_to_100"
            ),
            models.CheckConstraint(condition=~Q(product=F("candidate")), name="match_not_with_itself"),
            models.CheckConstraint(
                condition=Q(review_status="pending", reviewed_at__isnull=True)
                | (~Q(review_status="pending") & Q(reviewed_at__isnull=False)),
                name="match_verdict_has_a_time",
            ),
        ]
        indexes = [
            # Matches of a verdict in a band of scores, best first: the list of what waits, and how many in each band.
            # Not limited to what waits: SQLite would read each row of a partial index to compare the verdict, which
            # Django passes as a parameter.
            models.Index(fields=["review_status", "-similarity_score"], name="match_verdict_score"),
            # The next case of a review: the newest product with a match that waits, in any band of scores. Products
            # that have a match of a verdict.
            models.Index(fields=["review_status", "-product", "similarity_score"], name="match_verdict_product"),
            # Verdicts day by day, and a reviewer's own of today.
            models.Index(
                fields=["reviewed_at", "reviewer"], condition=Q(reviewed_at__isnull=False), name="match_reviewed"
            ),
            # The lists of the API and the admin by verdict.
            models.Index(fields=["review_status", "-id"], name="match_by_verdict"),
        ]

    def __str__(self) -> str:
        return f"{self.product} → {self.candidate}: {self.similarity_score:.1f}"


class ReviewLease(models.Model):
    """Who has a product's matches in front of them, so that two reviewers do not get the same case."""

    product = models.OneToOneField(
        Product, on_delete=models.CASCADE, primary_key=True, related_name="review_turn", verbose_name=_("product")
    )
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", verbose_name=_("reviewer")
    )
    taken_at = models.DateTimeField(_("taken"))

    class Meta:
        db_table = "review_turns"
        verbose_name = _("review turn")
        verbose_name_plural = _("review turns")

    def __str__(self) -> str:
        return f"{self.reviewer}: {self.product}"
