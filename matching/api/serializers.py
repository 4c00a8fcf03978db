"""Input and output of the matching API."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from matching.evidence.items import Direction
from matching.models import Match, ProductAnswer
from matching.review.verdicts import MAX_NOTE_LENGTH
from matching.service import DEFAULT_LIMIT, DEFAULT_THRESHOLD
from products.models import Feature

MAX_LIMIT = 100
MAX_QUERY_IMAGES = 10


class OptionsSerializer(serializers.Serializer[Any]):
    threshold = serializers.FloatField(required=False, default=DEFAULT_THRESHOLD, min_value=0, max_value=100)
    limit = serializers.IntegerField(required=False, default=DEFAULT_LIMIT, min_value=1, max_value=MAX_LIMIT)
    category = serializers.CharField(required=False, default=None, allow_null=True, allow_blank=True, max_length=200)


class MatchRequestSerializer(OptionsSerializer):
    save = serializers.BooleanField(  # type: ignore[assignment]  # the API's own name
        required=False,
        default=None,
        allow_null=True,
        help_text="Whether to save the matches. By default those of new products are saved.",
    )


class ImageQuerySerializer(OptionsSerializer):
    image = serializers.ListField(
        child=serializers.FileField(allow_empty_file=True, max_length=1000),
        min_length=1,
        max_length=MAX_QUERY_IMAGES,
        help_text="One or more images of one product.",
    )


class EvidenceSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    direction = serializers.ChoiceField(choices=[str(direction) for direction in Direction])
    weight = serializers.FloatField(
        help_text="In natural log-odds. The weights of all evidence add to those of this candidate against none."
    )
    text = serializers.CharField()


class CandidateSerializer(serializers.Serializer[Any]):
    match_id = serializers.IntegerField(allow_null=True)
    product_id = serializers.IntegerField()
    sku = serializers.CharField()
    name = serializers.CharField()
    category = serializers.CharField()
    similarity_score = serializers.FloatField()
    rank = serializers.IntegerField()
    probability = serializers.FloatField(
        allow_null=True, help_text="How likely it is the same product, 0 to 1. Null until `calibrate` has run."
    )
    evidence = EvidenceSerializer(many=True)
    image_url = serializers.CharField()
    review_status = serializers.ChoiceField(choices=Match.Status.choices)


class SearchResultSerializer(serializers.Serializer[Any]):
    product_id = serializers.IntegerField(allow_null=True)
    feature_type = serializers.ChoiceField(choices=Feature.Kind.choices)
    model_name = serializers.CharField()
    answer = serializers.ChoiceField(choices=ProductAnswer.Answer.choices)
    not_in_catalogue = serializers.FloatField(
        allow_null=True, help_text="How likely no catalogue product is the same. Null until `calibrate` has run."
    )
    matches = CandidateSerializer(many=True)


class MatchSerializer(serializers.ModelSerializer[Match]):
    product_id = serializers.IntegerField(read_only=True)
    candidate_id = serializers.IntegerField(read_only=True)
    reviewer = serializers.CharField(source="reviewer.get_username", read_only=True, default=None, allow_null=True)

    class Meta:
        model = Match
        fields = (
            "id", "product_id", "candidate_id", "similarity_score", "feature_type", "model_name", "rank",
            "review_status", "reviewer", "reviewed_at", "note", "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = [name for name in fields if name not in ("review_status", "note")]


class VerdictSerializer(serializers.Serializer[Any]):
    review_status = serializers.ChoiceField(choices=Match.Status.choices, required=False)
    note = serializers.CharField(required=False, allow_blank=True, max_length=MAX_NOTE_LENGTH)
