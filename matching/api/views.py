"""The matching API: search by product or image, list matches, give verdicts."""

from __future__ import annotations

from typing import Any, cast

import django_filters
from django.contrib.auth.models import User
from django.db.models import BigIntegerField
from django.forms import IntegerField
from django.http import QueryDict
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from matching import explanation, search, service
from matching.answers.estimates import estimates_of, is_probable
from matching.api import serializers
from matching.models import Match
from matching.review import verdicts
from matching.review.decisions import StaleError
from products.api.etags import IF_MATCH, if_match, with_etag
from products.api.views import WAIT, form_data, uploads_of, wait_of
from products.models import Product


class MatchProductView(APIView):
    permission_map = {"POST": "matching.view_match"}

    @extend_schema(
        operation_id="products_match",
        request=serializers.MatchRequestSerializer,
        responses=serializers.SearchResultSerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        """Return the catalogue products most similar to this one, best first.

        Those of a new product are saved, which needs the role uploader. Those of a catalogue product are saved only
        with `save: true`.
        """
        options = serializers.MatchRequestSerializer(data=request.data)
        options.is_valid(raise_exception=True)
        values = dict(options.validated_data)
        save = values.pop("save")
        if save is None:
            save = not Product.objects.filter(pk=pk, is_historical=True).exists()
        if save and not request.user.has_perm("matching.add_match"):
            self.permission_denied(
                request, message="Saving matches needs the role uploader. Send save=false to search without saving."
            )
        find = service.find_and_save_matches if save else service.find_matches
        return Response(_body(find(pk, **values)))


class MatchImageView(APIView):
    permission_map = {"POST": "matching.view_match"}
    parser_classes = [MultiPartParser, FormParser]

    @extend_schema(
        operation_id="match_picture",
        parameters=[WAIT],
        request={"multipart/form-data": serializers.ImageQuerySerializer},
        responses=serializers.SearchResultSerializer,
    )
    def post(self, request: Request) -> Response:
        """Return the catalogue products most similar to one product, shown by one or more images. Nothing is stored.

        With several images the best one counts for each candidate.
        """
        wait = wait_of(request)
        form = serializers.ImageQuerySerializer(data=form_data(request))
        form.is_valid(raise_exception=True)
        values = dict(form.validated_data)
        uploads = uploads_of(values.pop("image"))
        return Response(_body(service.match_images(uploads, wait=wait, **values)))


class SearchView(APIView):
    permission_map = {"POST": "matching.view_match"}

    @extend_schema(
        operation_id="search",
        parameters=[WAIT],
        request={
            "application/json": serializers.SearchJsonSerializer,
            "multipart/form-data": serializers.SearchFormSerializer,
        },
        responses=serializers.WordsResultSerializer,
    )
    def post(self, request: Request) -> Response:
        """Return the catalogue products that fit words, an image, or both, best first. Nothing is stored.

        Words need a model with a text encoder (503 `text_unavailable`). They are compared with the vectors of that
        model, also while a learned head is in use. An image alone is searched as by `/api/match`.
        """
        wait = wait_of(request)
        form: Serializer[Any]
        if isinstance(request.data, QueryDict):
            form = serializers.SearchFormSerializer(data=form_data(request))
        else:
            form = serializers.SearchJsonSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        values = dict(form.validated_data)
        uploads = uploads_of(values.pop("image", None) or [])
        result = search.search(uploads=uploads, wait=wait, **values)
        return Response(_body(result) | ({"notice": result.notice} if result.notice else {}))


class IdFilter(django_filters.NumberFilter):  # type: ignore[misc]  # the library has no types
    """A number in the range of the database's ids."""

    field_class = IntegerField

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=0, max_value=BigIntegerField.MAX_BIGINT, **options)


class MatchFilter(django_filters.FilterSet):  # type: ignore[misc]
    product = IdFilter(field_name="product_id")
    candidate = IdFilter(field_name="candidate_id")
    min_score = django_filters.NumberFilter(field_name="similarity_score", lookup_expr="gte")
    max_score = django_filters.NumberFilter(field_name="similarity_score", lookup_expr="lte")
    category = django_filters.CharFilter(field_name="product__category")

    class Meta:
        model = Match
        fields = ("review_status", "feature_type")


class MatchListView(generics.ListAPIView[Match]):
    permission_map = {"GET": "matching.view_match"}
    queryset = Match.objects.select_related("reviewer").order_by("-id")
    serializer_class = serializers.MatchSerializer
    filterset_class = MatchFilter


class MatchView(generics.RetrieveAPIView[Match]):
    permission_map = {"GET": "matching.view_match", "PATCH": "matching.change_match"}
    queryset = Match.objects.select_related("reviewer")
    serializer_class = serializers.MatchSerializer

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        match = self.get_object()
        return with_etag(Response(self.get_serializer(match).data), match.version)

    @extend_schema(parameters=[IF_MATCH], request=serializers.VerdictSerializer, responses=serializers.MatchSerializer)
    def patch(self, request: Request, pk: int) -> Response:
        """Confirm or reject a match, undo the verdict (`pending`), or save a note.

        The decision on the case follows: a confirmed match settles the other candidates. With `If-Match`, a match that
        changed since is refused (412). Without it, the verdict of another reviewer only changes with `override`.
        """
        match = self.get_object()
        form = serializers.VerdictSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        values = form.validated_data
        try:
            match = verdicts.set_verdict(
                match.pk, values.get("review_status"), cast(User, request.user), values.get("note"),
                version=if_match(request), override=values["override"],
            )  # fmt: skip
        except StaleError as error:
            error.status = 412
            raise
        return with_etag(Response(serializers.MatchSerializer(match).data), match.version)


class ExplanationView(APIView):
    permission_map = {"GET": "matching.view_match"}

    @extend_schema(operation_id="matches_explanation", parameters=[WAIT], responses=serializers.ExplanationSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """Return why a match has its score: where the images match, and what each part of their vectors adds.

        A worker computes it on the first call. It needs a model with vectors of patches for the heat maps.
        """
        return Response(explanation.serialize(pk, explanation.explain_match(pk, wait_of(request))))


def _body(result: service.SearchResult) -> dict[str, Any]:
    return {
        "product_id": result.product.pk if result.product else None,
        "feature_type": result.feature_type,
        "model_name": result.model_name,
        "answer": result.answer,
        "not_in_catalogue": service.rounded(result.not_in_catalogue),
        "matches": [service.serialize_candidate(candidate) for candidate in result.candidates],
        "estimates": _estimates(result),
    }


def _estimates(result: service.SearchResult) -> list[dict[str, Any]]:
    """Return what the confirmed and probable candidates say of numbers that the product itself may lack."""
    probable = [
        candidate.product.pk
        for candidate in result.candidates
        if is_probable(candidate.match.review_status if candidate.match else "pending", candidate.probability)
    ]
    return [estimate.as_json() for estimate in estimates_of({0: probable})[0]]
