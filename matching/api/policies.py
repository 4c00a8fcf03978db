"""The API of policies: what is decided without a person, and what it would decide."""

from __future__ import annotations

from typing import Any, cast

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError as DjangoValidationError
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from matching import service
from matching.models import Policy
from matching.policy import audit, evaluation, switching, tasks
from matching.policy.evaluation import Side
from matching.policy.switching import Settings


class SideSerializer(serializers.Serializer[Any]):
    decided_from = serializers.FloatField(allow_null=True, help_text="The lowest probability; null: decides nothing.")
    why_not = serializers.CharField(help_text="Why past decisions do not carry the promise, or empty.")
    today = serializers.IntegerField(help_text="Open cases that it would decide now.")
    decided = serializers.IntegerField(help_text="Past decisions that it would have made.")
    wrong = serializers.IntegerField(help_text="Those of them that people decided otherwise.")


class AuditSerializer(serializers.Serializer[Any]):
    checked = serializers.IntegerField()
    right = serializers.IntegerField()
    low = serializers.FloatField(help_text="The lower end of the interval of the measured share.")
    high = serializers.FloatField()
    waiting = serializers.IntegerField()
    decided = serializers.IntegerField()
    corrected = serializers.IntegerField()


class PolicySerializer(serializers.Serializer[Any]):
    category = serializers.CharField(help_text="Empty: all categories without a policy of their own.")
    confirms = serializers.BooleanField()
    calls_new = serializers.BooleanField()
    promise = serializers.FloatField()
    confidence = serializers.FloatField()
    audit_share = serializers.FloatField()
    paused_at = serializers.DateTimeField(allow_null=True)
    paused_because = serializers.CharField()
    open = serializers.IntegerField(help_text="Cases that wait for their first decision.")
    same = SideSerializer()
    new = SideSerializer()
    audit = AuditSerializer(allow_null=True)


class PolicyChangeSerializer(serializers.Serializer[Any]):
    category = serializers.CharField(required=False, default="", allow_blank=True, max_length=200)
    confirms = serializers.BooleanField(required=False)
    calls_new = serializers.BooleanField(required=False)
    promise = serializers.FloatField(required=False)
    confidence = serializers.FloatField(required=False)
    audit_share = serializers.FloatField(required=False)


class PoliciesView(APIView):
    permission_map = {"GET": "matching.view_policy", "PATCH": "matching.change_policy"}

    @extend_schema(operation_id="policies", responses=PolicySerializer(many=True))
    def get(self, _request: Request) -> Response:
        """Return all policies with what they would decide today. That of all other categories comes first."""
        policies = list(Policy.objects.all())
        if not any(policy.category == "" for policy in policies):
            policies.insert(0, Policy())
        return Response([_document(policy) for policy in policies])

    @extend_schema(operation_id="policy_change", request=PolicyChangeSerializer, responses=PolicySerializer)
    def patch(self, request: Request) -> Response:
        """Change the policy of a category, or without one that of all others.

        What past decisions do not carry cannot be switched on (400 with the reason).
        """
        form = PolicyChangeSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        values = dict(form.validated_data)
        category = values.pop("category")
        before = Settings.of(switching.policy_of(category))
        merged = {name: values.get(name, getattr(before, name)) for name in Settings.__slots__}
        try:
            policy = switching.change(category, Settings(**merged), cast(User, request.user))
        except DjangoValidationError as error:
            raise ValidationError(error.message_dict) from None
        if policy.is_on:
            tasks.notify_workers()
        return Response(_document(policy))


def _document(policy: Policy) -> dict[str, Any]:
    _kind, model, _head = service.version_in_use()
    seen = evaluation.preview(policy, model)
    found = audit.audit_of(policy) if policy.pk is not None else None
    return {
        "category": policy.category,
        **{name: getattr(policy, name) for name in Settings.__slots__},
        "paused_at": policy.paused_at,
        "paused_because": policy.paused_because,
        "open": seen.open,
        "same": _side(seen.same),
        "new": _side(seen.new),
        "audit": None if found is None else {
            "checked": found.checked, "right": found.right, "low": found.interval[0], "high": found.interval[1],
            "waiting": found.waiting, "decided": found.decided, "corrected": found.corrected,
        },
    }  # fmt: skip


def _side(side: Side) -> dict[str, Any]:
    return {
        "decided_from": side.decided_from, "why_not": side.why_not, "today": side.today, "decided": side.decided,
        "wrong": len(side.mistakes),
    }  # fmt: skip
