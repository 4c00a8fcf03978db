"""Matches of new products with candidates, their verdicts, leases on review cases, and jobs of the page Models."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from core.deletion import BulkDeletable
from core.history.recording import AuditTrail
from core.jobs import BackgroundJob
from matching.index.models import IndexChange
from products.models import Feature, Product

__all__ = ["IndexChange", "Match", "ModelJob", "ReviewLease"]


class Match(BulkDeletable):
    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        CONFIRMED = "confirmed", _("confirmed")
        REJECTED = "rejected", _("rejected")

    product = models.ForeignKey(
        Product, on_delete=models.CASCADE, related_name="matches", verbose_name=_("new product")
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
    # Only verdicts and notes are history. Matches that the program adds, updates or deletes are not.
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
            # Matches with a verdict in a score band, best first: the list of pending matches, and counts by band.
            # Not partial: Django passes the verdict as a parameter, so SQLite would read every row to compare it.
            models.Index(fields=["review_status", "-similarity_score"], name="match_verdict_score"),
            # The next case to review: the newest product with a pending match, in any score band. Also products that
            # have a match with a verdict.
            models.Index(fields=["review_status", "-product", "similarity_score"], name="match_verdict_product"),
            # Verdicts by day, and a reviewer's verdicts today.
            models.Index(
                fields=["reviewed_at", "reviewer"], condition=Q(reviewed_at__isnull=False), name="match_reviewed"
            ),
            # Lists of the API and the admin by verdict.
            models.Index(fields=["review_status", "-id"], name="match_by_verdict"),
        ]

    def __str__(self) -> str:
        return f"{self.product} → {self.candidate}: {self.similarity_score:.1f}"


class ReviewLease(models.Model):
    """A lease on the case of a product, so that two reviewers do not get the same one."""

    product = models.OneToOneField(
        Product, on_delete=models.CASCADE, primary_key=True, related_name="review_lease", verbose_name=_("product")
    )
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", verbose_name=_("reviewer")
    )
    taken_at = models.DateTimeField(_("taken"))

    class Meta:
        db_table = "review_turns"
        verbose_name = _("review lease")
        verbose_name_plural = _("review leases")

    def __str__(self) -> str:
        return f"{self.reviewer}: {self.product}"


class ModelJob(BackgroundJob):
    """Learning a head, or comparing two versions. A nightly job has no user."""

    class Kind(models.TextChoices):
        TRAIN = "train", _("learn a head")
        COMPARE = "compare", _("compare two versions")

    class State(models.TextChoices):
        RUNNING = "running", _("running")
        DONE = "done", _("done")
        STOPPED = "stopped", _("stopped")
        FAILED = "failed", _("failed")

    ACTIVE = (State.RUNNING,)

    user = models.ForeignKey(  # type: ignore[assignment]  # other jobs always have a user
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", verbose_name=_("user"),
        db_column="person_id", null=True,
    )  # fmt: skip
    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.RUNNING)
    options = models.JSONField(_("options"), default=dict)
    total = models.PositiveIntegerField(_("products"), default=0)
    done = models.PositiveIntegerField(_("products so far"), default=0)
    report = models.JSONField(_("report"), default=dict)

    class Meta:
        db_table = "model_jobs"
        verbose_name = _("job of a model")
        verbose_name_plural = _("jobs of models")
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.created_at:%Y-%m-%d %H:%M}"
