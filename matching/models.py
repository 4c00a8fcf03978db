"""Matches of new products with candidates, decisions on cases, leases on them, and jobs of the page Models."""

from __future__ import annotations

import hashlib

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from core.deletion import BulkDeletable
from core.history.recording import AuditTrail
from core.jobs import BackgroundJob
from matching.index.models import IndexChange
from matching.review.models import DeletedImage, DeletedProduct, KeptDecision, KeptVerdict
from products.models import Feature, Product, ProductImage

__all__ = [
    "Calibration",
    "Decision",
    "DeletedImage",
    "DeletedProduct",
    "IndexChange",
    "KeptDecision",
    "KeptVerdict",
    "Match",
    "ModelJob",
    "ProductAnswer",
    "ReviewLease",
]


class Match(BulkDeletable):
    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        CONFIRMED = "confirmed", _("confirmed")
        VARIANT = "variant", _("variant")
        REJECTED = "rejected", _("rejected")
        UNSURE = "unsure", _("cannot tell")

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
    probability = models.FloatField(_("probability"), null=True, editable=False)
    evidence = models.JSONField(_("evidence"), default=list, editable=False)
    # The pair of images that has the score. Without a constraint, so that deleting an image costs no look-up here. Null
    # if the match was saved before they were recorded.
    product_image = models.ForeignKey(
        ProductImage, on_delete=models.DO_NOTHING, null=True, editable=False, db_constraint=False, db_index=False,
        related_name="+", verbose_name=_("compared image"),
    )  # fmt: skip
    candidate_image = models.ForeignKey(
        ProductImage, on_delete=models.DO_NOTHING, null=True, editable=False, db_constraint=False, db_index=False,
        related_name="+", verbose_name=_("compared image of the candidate"),
    )  # fmt: skip
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
            "feature_type", "model_name", "rank", "probability", "evidence", "product_image", "candidate_image",
            "reviewer", "reviewed_at", "created_at", "updated_at",
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

    @property
    def version(self) -> str:
        """Return a text that changes with the verdict, the note and the score."""
        at = self.reviewed_at.isoformat() if self.reviewed_at else ""
        parts = (self.pk, self.review_status, self.reviewer_id, at, self.note, self.similarity_score, self.rank)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


class Decision(BulkDeletable):
    """What a reviewer decided about a case: which candidates the new product is, if any.

    The verdicts on the case's matches follow from it. A case without a decision is open.
    """

    class Kind(models.TextChoices):
        SAME = "same", _("the same")
        VARIANT = "variant", _("a variant")
        NEW = "new", _("a new product")
        UNSURE = "unsure", _("cannot tell")

    product = models.OneToOneField(
        Product, on_delete=models.CASCADE, related_name="decision", verbose_name=_("new product")
    )
    kind = models.CharField(_("decision"), max_length=10, choices=Kind.choices)
    candidates = models.JSONField(_("candidates"), default=list, help_text=_("The ids of the products that it is."))
    differs = models.CharField(
        _("differs in"),
        max_length=200,
        blank=True,
        default="",
        help_text=_("The attribute in which a variant differs."),
    )
    reason = models.CharField(_("reason"), max_length=200, blank=True, default="")
    note = models.TextField(_("note"), blank=True, default="")
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+",
        verbose_name=_("reviewer"),
    )  # fmt: skip
    decided_at = models.DateTimeField(_("decided"))
    # What it was made on: the version of the case, and each candidate with its score at that time.
    version = models.CharField(_("version of the case"), max_length=32, blank=True, default="", editable=False)
    shown = models.JSONField(_("candidates at that time"), default=list, editable=False)
    # The matches whose verdicts it gave. Undoing it makes these pending again.
    settled = models.JSONField(_("settled matches"), default=list, editable=False)
    history = AuditTrail("decision_history", excluded_fields=("reviewer", "decided_at", "version", "shown", "settled"))

    class Meta:
        db_table = "decisions"
        verbose_name = _("decision")
        verbose_name_plural = _("decisions")
        ordering = ("-decided_at", "-id")
        indexes = [
            # Decisions by day, and a reviewer's decisions today.
            models.Index(fields=["decided_at", "reviewer"], name="decision_by_day"),
        ]

    def __str__(self) -> str:
        return f"{self.product}: {self.get_kind_display()}"


class Calibration(models.Model):
    """What turns the scores of one model version into probabilities. The newest adopted one counts."""

    model_name = models.CharField(_("model version"), max_length=200)
    parameters = models.JSONField(_("parameters"))
    statistics = models.BinaryField(_("how often words and identifiers occur in the catalogue"))
    report = models.JSONField(_("report"), default=dict, help_text=_("Figures of the cross-validation."))
    adopted = models.BooleanField(_("adopted"), default=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        db_table = "calibrations"
        verbose_name = _("calibration")
        verbose_name_plural = _("calibrations")
        indexes = [models.Index(fields=["model_name", "adopted", "-id"], name="calibration_in_use")]

    def __str__(self) -> str:
        return f"{self.model_name}, {self.created_at:%Y-%m-%d %H:%M}"


class ProductAnswer(models.Model):
    """What the program says about a new product, from its last matching."""

    class Answer(models.TextChoices):
        SAME = "same", _("the same as a catalogue product")
        NEW = "new", _("probably not in the catalogue")
        LOOK = "look", _("a person should look")

    product = models.OneToOneField(
        Product, on_delete=models.CASCADE, primary_key=True, related_name="answer", verbose_name=_("product")
    )
    answer = models.CharField(_("answer"), max_length=10, choices=Answer.choices)
    not_in_catalogue = models.FloatField(_("probability that it is not in the catalogue"), null=True)
    answered_at = models.DateTimeField(_("answered"))

    class Meta:
        db_table = "product_answers"
        verbose_name = _("answer")
        verbose_name_plural = _("answers")
        indexes = [models.Index(fields=["answer", "-product"], name="answer_product")]

    def __str__(self) -> str:
        return f"{self.product}: {self.answer}"


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
    """A job of the page Models. A nightly job has no user."""

    class Kind(models.TextChoices):
        TRAIN = "train", _("learn a head")
        COMPARE = "compare", _("compare two versions")
        DOWNLOAD = "download", _("download a model")
        MEASURE = "measure", _("measure the encoders")

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
    total = models.PositiveIntegerField(_("products"), default=0)  # or encoders, when they are measured
    done = models.PositiveIntegerField(_("products so far"), default=0)
    report = models.JSONField(_("report"), default=dict)

    class Meta:
        db_table = "model_jobs"
        verbose_name = _("job of a model")
        verbose_name_plural = _("jobs of models")
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.created_at:%Y-%m-%d %H:%M}"
