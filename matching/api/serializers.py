"""Input and output of the matching API."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models import BigIntegerField
from rest_framework import serializers

from gpu.imaging.errors import MAX_BYTES, ImageProcessingError
from matching.evidence.items import Direction
from matching.models import Decision, Match, ProductAnswer
from matching.preferences import MAX_LIMIT, default_limit, default_threshold
from matching.review import cases
from matching.review.decisions import MAX_NOTE_LENGTH, MAX_WORDS_LENGTH
from matching.search import DEFAULT_IMAGE_WEIGHT, MAX_TEXT_LENGTH
from products.models import Feature

MAX_QUERY_IMAGES = 10
MAX_BASE64_LENGTH = 4 * MAX_BYTES // 3 + 100
MAX_DECISIONS = 500  # in one request


class OptionsSerializer(serializers.Serializer[Any]):
    threshold = serializers.FloatField(
        required=False, default=default_threshold, min_value=0, max_value=100,
        help_text="By default as on the page Settings, at first 50.",
    )  # fmt: skip
    limit = serializers.IntegerField(
        required=False, default=default_limit, min_value=1, max_value=MAX_LIMIT,
        help_text="By default as on the page Settings, at first 10.",
    )  # fmt: skip
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


class SearchOptionsSerializer(OptionsSerializer):
    text = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=MAX_TEXT_LENGTH,
        help_text="What to look for, in words.",
    )
    image_weight = serializers.FloatField(
        required=False,
        default=DEFAULT_IMAGE_WEIGHT,
        min_value=0,
        max_value=1,
        help_text="The share of the image in a search by text and image. The text has the rest.",
    )
    threshold = serializers.FloatField(
        required=False,
        default=None,
        allow_null=True,
        min_value=0,
        max_value=100,
        help_text="By default as on the page Settings for a search by image alone, at first 50. "
        "With words 0, because words score lower than images.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs["text"] and not attrs.get("image"):
            raise serializers.ValidationError("A search needs text, an image, or both.")
        return attrs


class SearchFormSerializer(SearchOptionsSerializer):
    image = serializers.ListField(
        child=serializers.FileField(allow_empty_file=True, max_length=1000),
        required=False,
        max_length=MAX_QUERY_IMAGES,
        help_text="One or more images of one product.",
    )


class Base64ImageField(serializers.CharField):
    """An image in base64, also as a data URL. Its value is a list with one upload."""

    def to_internal_value(self, data: Any) -> Any:
        text = super().to_internal_value(data)
        if len(text) > MAX_BASE64_LENGTH:
            raise ImageProcessingError("image_too_large", f"An image in JSON has at most {MAX_BYTES // 2**20} MiB.")
        if text.startswith("data:"):
            text = text.partition(",")[2]
        try:
            return [SimpleUploadedFile("image", base64.b64decode(text, validate=True))] if text else []
        except (binascii.Error, ValueError) as error:
            raise serializers.ValidationError("This is not base64.") from error


class SearchJsonSerializer(SearchOptionsSerializer):
    image = Base64ImageField(
        required=False, default="", allow_null=True, allow_blank=True, help_text="An image in base64, or a data URL."
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


class EstimateSerializer(serializers.Serializer[Any]):
    """A number estimated from the confirmed and probable matches. It is not known of the product itself."""

    name = serializers.CharField(help_text="`price`, or the name of an attribute.")
    unit = serializers.CharField(help_text="The currency of a price, the unit of a quantity, or empty. Never mixed.")
    median = serializers.FloatField()
    low = serializers.FloatField()
    high = serializers.FloatField()
    count = serializers.IntegerField(help_text="Matches behind it.")


class SearchResultSerializer(serializers.Serializer[Any]):
    product_id = serializers.IntegerField(allow_null=True)
    feature_type = serializers.ChoiceField(choices=Feature.Kind.choices)
    model_name = serializers.CharField()
    answer = serializers.ChoiceField(choices=ProductAnswer.Answer.choices)
    not_in_catalogue = serializers.FloatField(
        allow_null=True, help_text="How likely no catalogue product is the same. Null until `calibrate` has run."
    )
    matches = CandidateSerializer(many=True)
    estimates = EstimateSerializer(many=True)


class WordsResultSerializer(SearchResultSerializer):
    notice = serializers.CharField(required=False, help_text="Only if the model could not read the whole text.")


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
    override = serializers.BooleanField(
        required=False, default=False, help_text="Change the verdict of another reviewer (else 409 already_decided)."
    )


class ContributionSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField(help_text="clip, legacy, or empty for the floor.")
    model_name = serializers.CharField()
    name = serializers.CharField(help_text="colour, texture or shape of legacy features, floor, or empty.")
    points = serializers.FloatField()


class HeatMapSerializer(serializers.Serializer[Any]):
    image_id = serializers.IntegerField()
    image_url = serializers.CharField()
    rows = serializers.IntegerField()
    columns = serializers.IntegerField()
    area = serializers.ListField(
        child=serializers.FloatField(),
        help_text="Which part of the image the cells cover: left, top, width, height, as shares of the image.",
    )
    values = serializers.ListField(child=serializers.FloatField(), help_text="From 0 to 1, row by row.")


class ExplanationSerializer(serializers.Serializer[Any]):
    match_id = serializers.IntegerField()
    score = serializers.FloatField()
    image_id = serializers.IntegerField()
    image_url = serializers.CharField()
    candidate_image_id = serializers.IntegerField()
    candidate_image_url = serializers.CharField()
    parts = ContributionSerializer(many=True, help_text="They sum to the score, unless that is cut off at 0.")
    heat_maps = HeatMapSerializer(many=True, help_text="Of the product's image and of the candidate's, or empty.")
    no_heat_maps = serializers.CharField(help_text="Why there are no heat maps, or empty.")


class DecisionSerializer(serializers.Serializer[Any]):
    """A decision on a case, as it is stored."""

    decision = serializers.ChoiceField(choices=Decision.Kind.choices)
    candidates = serializers.ListField(child=serializers.IntegerField())
    differs = serializers.CharField()
    reason = serializers.CharField()
    note = serializers.CharField()
    by = serializers.CharField(allow_null=True)
    automatic = serializers.BooleanField(help_text="Made by the policy. `by` is then null.")
    at = serializers.DateTimeField()


class CaseCandidateSerializer(CandidateSerializer):
    note = serializers.CharField()
    product_image_url = serializers.CharField(allow_null=True, help_text="The image that the score compares.")
    found_later = serializers.BooleanField(help_text="It came into the case after the first candidates.")


class CaseSerializer(serializers.Serializer[Any]):
    product_id = serializers.IntegerField()
    sku = serializers.CharField()
    name = serializers.CharField()
    category = serializers.CharField()
    kind = serializers.ChoiceField(
        choices=[cases.NEW_PRODUCT, cases.DUPLICATE],
        help_text="duplicate: the product is part of the catalogue itself.",
    )
    same_as = serializers.ListField(
        child=serializers.IntegerField(), help_text="Ids of the products that it was decided to be the same as."
    )
    state = serializers.ChoiceField(choices=[cases.OPEN, cases.DECIDED])
    version = serializers.CharField(help_text="Send it with the decision. It is also the ETag.")
    decision = DecisionSerializer(allow_null=True)
    random_half = serializers.BooleanField(help_text="In the order `useful` this case comes at random.")
    better_candidate = serializers.BooleanField(help_text="The best candidate was found after the others.")
    answer = serializers.ChoiceField(choices=ProductAnswer.Answer.choices, allow_null=True)
    not_in_catalogue = serializers.FloatField(allow_null=True)
    candidates = CaseCandidateSerializer(many=True)
    estimates = EstimateSerializer(many=True)
    kept = serializers.ListField(
        child=serializers.CharField(), required=False,
        help_text="Only after a decision: values of the earlier decision that stay, because a user changed them since.",
    )  # fmt: skip


class KeptSerializer(serializers.Serializer[Any]):
    kept = serializers.ListField(
        child=serializers.CharField(), help_text="Values that stay, because a user has changed them since."
    )


class DecideSerializer(serializers.Serializer[Any]):
    decision = serializers.ChoiceField(choices=Decision.Kind.choices)
    candidates = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=BigIntegerField.MAX_BIGINT),
        required=False, default=list, max_length=MAX_LIMIT,
        help_text="Ids of the candidates that the product is (same), or is a variant of (variant).",
    )  # fmt: skip
    differs = serializers.CharField(
        required=False, default="", allow_blank=True, max_length=MAX_WORDS_LENGTH,
        help_text="The attribute in which a variant differs, such as size.",
    )  # fmt: skip
    reason = serializers.CharField(required=False, default="", allow_blank=True, max_length=MAX_WORDS_LENGTH)
    note = serializers.CharField(required=False, default="", allow_blank=True, max_length=MAX_NOTE_LENGTH)
    version = serializers.CharField(
        required=False, default=None, allow_null=True, max_length=100,
        help_text="The version of the case that the decision is made on (else 409 stale).",
    )  # fmt: skip
    override = serializers.BooleanField(
        required=False, default=False, help_text="Replace the decision of another reviewer without naming a version."
    )


class DecideOneSerializer(DecideSerializer):
    product_id = serializers.IntegerField(min_value=1, max_value=BigIntegerField.MAX_BIGINT)


class DecideManySerializer(serializers.Serializer[Any]):
    decisions = serializers.ListField(
        child=serializers.DictField(), min_length=1, max_length=MAX_DECISIONS,
        help_text="Each as for one case, with its `product_id`.",
    )  # fmt: skip


class DecidedSerializer(serializers.Serializer[Any]):
    """What became of one decision of many: the case, or the code and reason of the error."""

    product_id = serializers.IntegerField(allow_null=True)
    status = serializers.IntegerField(help_text="As if it had been sent alone: 200, 400, 404 or 409.")
    code = serializers.CharField(required=False)
    detail = serializers.CharField(required=False)
    version = serializers.CharField(required=False)
    decided = DecisionSerializer(required=False, allow_null=True)
    kept = serializers.ListField(child=serializers.CharField(), required=False)


class DecidedManySerializer(serializers.Serializer[Any]):
    results = DecidedSerializer(many=True)
