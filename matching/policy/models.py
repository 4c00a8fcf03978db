"""What each category's policy may decide, and the cases that policies took."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from core.history.recording import AuditTrail
from products.models import Product

PROMISE, CONFIDENCE, AUDIT_SHARE = 0.98, 0.95, 0.02


class Policy(models.Model):
    """What may be decided without a person in one category, or in all categories without a policy of their own."""

    category = models.CharField(
        _("category"), max_length=200, unique=True, blank=True, default="",
        help_text=_("Empty: all categories without a policy of their own."),
    )  # fmt: skip
    confirms = models.BooleanField(_("confirms the same product"), default=False)
    calls_new = models.BooleanField(_("calls a product new"), default=False)
    promise = models.FloatField(_("promised share of right decisions"), default=PROMISE)
    confidence = models.FloatField(_("confidence"), default=CONFIDENCE)
    audit_share = models.FloatField(_("share that people check"), default=AUDIT_SHARE)
    paused_at = models.DateTimeField(_("paused"), null=True)
    paused_because = models.TextField(_("why it is paused"), blank=True, default="")
    # Cases of policies with greater ids count for the audit. An id, because a clock can be set back.
    counted_from = models.BigIntegerField(default=0, editable=False)
    # From which probability on past decisions carry the promise, as last computed; null if none does.
    same_from = models.FloatField(null=True, editable=False)
    new_from = models.FloatField(null=True, editable=False)
    model_name = models.CharField(max_length=200, blank=True, default="", editable=False)
    evaluated_at = models.DateTimeField(null=True, editable=False)
    history = AuditTrail(
        "policy_history", excluded_fields=("counted_from", "same_from", "new_from", "model_name", "evaluated_at")
    )

    class Meta:
        db_table = "policies"
        verbose_name = _("policy")
        verbose_name_plural = _("policies")
        ordering = ("category",)

    def __str__(self) -> str:
        return self.category or str(_("All other categories"))

    @property
    def is_on(self) -> bool:
        """Return whether it may decide something. It may be paused all the same."""
        return self.confirms or self.calls_new


class PolicyCase(models.Model):
    """What a policy decided about a case, or would have: then the case is of the audit, and a person decides it.

    A case is taken once. So what a person undoes or decides is never decided again.
    """

    class Kind(models.TextChoices):
        SAME = "same", _("the same")
        NEW = "new", _("a new product")

    product = models.OneToOneField(
        Product, on_delete=models.CASCADE, related_name="policy_case", verbose_name=_("new product")
    )
    policy = models.ForeignKey(
        Policy, on_delete=models.SET_NULL, null=True, related_name="cases", verbose_name=_("policy")
    )
    kind = models.CharField(_("decision"), max_length=10, choices=Kind.choices)
    candidate = models.BigIntegerField(_("candidate"), null=True)
    probability = models.FloatField(_("probability"))
    promise = models.FloatField(_("promised share of right decisions"))
    is_audit = models.BooleanField(_("checked by a person"), default=False)
    handled_at = models.DateTimeField(_("taken"))

    class Meta:
        db_table = "policy_cases"
        verbose_name = _("case of a policy")
        verbose_name_plural = _("cases of policies")
        indexes = [
            # The cases of a policy since it was switched on, and those of its audit.
            models.Index(fields=["policy", "is_audit", "id"], name="policy_case_audit"),
        ]

    def __str__(self) -> str:
        return f"{self.product}: {self.kind}"
