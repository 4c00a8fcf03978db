"""The API of cases: list them, read one, decide one or many, undo a decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import django_filters
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import Prefetch, QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from matching.answers.estimates import estimates_of
from matching.api import serializers
from matching.api.views import IdFilter
from matching.models import Decision, Match
from matching.review import cases, decisions
from matching.review.cases import Case
from matching.review.decisions import Choice, ConflictError, StaleError
from matching.review.usefulness import is_random, most_useful_first
from matching.service import rounded
from products.api.etags import IF_MATCH, if_match, with_etag
from products.exporting import LARGE_COLUMNS
from products.models import Product

OVERRIDE = OpenApiParameter("override", bool, description="Undo the decision of another reviewer.")


class CaseFilter(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    state = django_filters.ChoiceFilter(
        choices=[(cases.OPEN, cases.OPEN), (cases.DECIDED, cases.DECIDED)], method="in_state",
        label="`open`: a candidate waits for a verdict",
    )  # fmt: skip
    kind = django_filters.ChoiceFilter(
        choices=[(cases.NEW_PRODUCT, cases.NEW_PRODUCT), (cases.DUPLICATE, cases.DUPLICATE)], method="of_kind",
        label="`duplicate`: the product is part of the catalogue itself",
    )  # fmt: skip
    decision = django_filters.ChoiceFilter(choices=Decision.Kind.choices, field_name="decision__kind")
    reviewer = django_filters.CharFilter(field_name="decision__reviewer__username", max_length=150)
    automatic = django_filters.BooleanFilter(
        field_name="decision__automatic", label="Decided by the policy (true) or by a person (false)"
    )
    category = django_filters.CharFilter(max_length=200)
    candidate = IdFilter(field_name="matches__candidate_id", label="Cases with this candidate")
    ordering = django_filters.ChoiceFilter(
        choices=[("newest", "newest"), ("useful", "useful")], method="in_order",
        label="`useful`: by turns the most uncertain case and a random one",
    )  # fmt: skip

    class Meta:
        model = Product
        fields = ()

    def in_state(self, _products: QuerySet[Product], _name: str, state: str) -> QuerySet[Product]:
        return _with_all(cases.cases(state))

    def of_kind(self, products: QuerySet[Product], _name: str, kind: str) -> QuerySet[Product]:
        return products.filter(is_historical=kind == cases.DUPLICATE)

    def in_order(self, products: QuerySet[Product], _name: str, ordering: str) -> QuerySet[Product]:
        return most_useful_first(products) if ordering == "useful" else products


class CaseListView(generics.ListAPIView[Product]):
    permission_map = {"GET": "matching.view_match"}
    serializer_class = serializers.CaseSerializer
    filterset_class = CaseFilter

    def get_queryset(self) -> QuerySet[Product]:
        return _with_all(cases.cases())

    @extend_schema(operation_id="cases_list")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return cases, newest product first: each new product with its candidates and the decision on it.

        With `ordering=useful` the most uncertain case and a random one come by turns. `random_half` says of each case
        whether it is one of the random ones; estimates from decisions should count only those.
        """
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(_documents([_case_of(product) for product in page or []]))


class CaseView(APIView):
    permission_map = {"GET": "matching.view_match"}

    @extend_schema(operation_id="case", responses=serializers.CaseSerializer)
    def get(self, _request: Request, pk: int) -> Response:
        """Return a case with its version, which is also the ETag."""
        return _response(pk)


class DecisionView(APIView):
    permission_map = {"POST": "matching.change_match", "DELETE": "matching.change_match"}

    @extend_schema(
        operation_id="case_decide",
        parameters=[IF_MATCH],
        request=serializers.DecideSerializer,
        responses=serializers.CaseSerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        """Decide a case: the same as candidates, a variant of them, none of these (`new`), or cannot tell (`unsure`).

        All other candidates are settled with it. Name the `version` that you saw: if the case was decided or changed
        since, the decision is refused (409 `stale`; 412 with `If-Match`). Without a version, the decision of another
        reviewer is refused (409 `already_decided`) unless `override` is true. The problem says who decided what.
        """
        form = serializers.DecideSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        etag = if_match(request)
        try:
            decided = _decide(pk, form.validated_data, request, etag)
        except StaleError as error:
            raise _with_status(error, etag) from None
        return _response(pk, decided.kept)

    @extend_schema(
        operation_id="case_undo", parameters=[IF_MATCH, OVERRIDE], request=None,
        responses={200: serializers.KeptSerializer, 204: None},
    )  # fmt: skip
    def delete(self, request: Request, pk: int) -> Response:
        """Undo the decision: the candidates that it settled wait again, and what it did to products is taken back.

        204 if all of that is as before. 200 if values stay because a user has changed them since: `kept` names them.
        """
        etag = if_match(request)
        override = request.query_params.get("override", "").lower() in ("1", "true")
        try:
            undone = decisions.undo(pk, cast(User, request.user), version=etag, override=override)
        except StaleError as error:
            raise _with_status(error, etag) from None
        return Response({"kept": undone.kept}) if undone.kept else Response(status=204)


class DecisionsView(APIView):
    permission_map = {"POST": "matching.change_match"}

    @extend_schema(
        operation_id="cases_decide",
        request=serializers.DecideManySerializer,
        responses=serializers.DecidedManySerializer,
    )
    def post(self, request: Request) -> Response:
        """Decide up to 500 cases. Each is decided or refused on its own; the answers come in the same order."""
        form = serializers.DecideManySerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return Response({"results": [_decide_one(one, request) for one in form.validated_data["decisions"]]})


def _decide_one(data: dict[str, Any], request: Request) -> dict[str, Any]:
    """Decide one of many cases. Return the new version, or why it was refused."""
    form = serializers.DecideOneSerializer(data=data)
    if not form.is_valid():
        given = data.get("product_id")
        pk = given if isinstance(given, int) else None
        text = "; ".join(f"{name}: {errors[0]}" for name, errors in form.errors.items())
        return {"product_id": pk, "status": 400, "code": "validation_error", "detail": text}
    values = form.validated_data
    answer: dict[str, Any] = {"product_id": values["product_id"]}
    try:
        case = _decide(values["product_id"], values, request, None)
    except ConflictError as error:
        return answer | {"status": 409, "code": error.code, "detail": str(error)} | error.details
    except Product.DoesNotExist as error:
        return answer | {"status": 404, "code": "not_found", "detail": str(error)}
    except DjangoValidationError as error:
        text = "; ".join(f"{name}: {texts[0]}" for name, texts in error.message_dict.items())
        return answer | {"status": 400, "code": "validation_error", "detail": text}
    answer |= {"status": 200, "version": case.version, "decided": cases.decision_document(case.decision)}
    return answer | ({"kept": case.kept} if case.kept else {})


def _decide(product_id: int, values: dict[str, Any], request: Request, etag: str | None) -> Case:
    choice = Choice(values["decision"], *(values[name] for name in ("candidates", "differs", "reason", "note")))
    if etag is not None and values["version"] not in (None, etag):
        raise ValidationError({"version": "The version and If-Match name two versions. Send one of them."})
    version = etag or values["version"]
    user = cast(User, request.user)
    return decisions.decide(product_id, choice, user, version=version, override=values["override"])


def _with_status(error: StaleError, etag: str | None) -> StaleError:
    error.status = 409 if etag is None else 412
    return error


def _response(product_id: int, kept: Sequence[str] = ()) -> Response:
    case = _case_of(_with_all(Product.objects.all()).get(pk=product_id))
    return with_etag(Response(_documents([case])[0] | ({"kept": kept} if kept else {})), case.version)


def _with_all(products: QuerySet[Product]) -> QuerySet[Product]:
    """Return the products with what their cases show, in the same number of queries for any number of them."""
    large = [f"candidate__{column}" for column in LARGE_COLUMNS]
    shown = Match.objects.select_related("candidate", "reviewer", "candidate_image", "product_image").defer(*large)
    matches = Prefetch("matches", shown.prefetch_related("candidate__images"))
    return (
        products.select_related("decision__reviewer", "answer")
        .defer(*LARGE_COLUMNS)
        .prefetch_related("images", "same_as_links", matches)
    )


def _case_of(product: Product) -> Case:
    return cases.case_of(product, list(product.matches.all()))


def _documents(found: list[Case]) -> list[dict[str, Any]]:
    """Return cases as the API shows them, with estimates in one query for all."""
    matched = {case.product.pk: cases.probable_candidates(case.matches) for case in found}
    estimated = estimates_of(matched)
    return [_document(case) | {"estimates": [one.as_json() for one in estimated[case.product.pk]]} for case in found]


def _document(case: Case) -> dict[str, Any]:
    later = cases.found_later(case.matches)
    product = case.product
    return {
        "product_id": product.pk,
        "sku": product.sku,
        "name": product.name,
        "category": product.category,
        "kind": case.kind,
        "same_as": [link.other_id for link in product.same_as_links.all()],
        "state": case.state,
        "version": case.version,
        "decision": cases.decision_document(case.decision),
        "random_half": is_random(product.pk),
        "better_candidate": case.has_better_candidate,
        "answer": case.answer.answer if case.answer else None,
        "not_in_catalogue": rounded(case.answer.not_in_catalogue) if case.answer else None,
        "candidates": [_candidate(match, later) for match in case.matches],
    }


def _candidate(match: Match, later: set[int]) -> dict[str, Any]:
    candidate = match.candidate
    images = list(candidate.images.all())
    image = match.candidate_image or (images[0] if images else None)
    return {
        "match_id": match.pk,
        "product_id": candidate.pk,
        "sku": candidate.sku,
        "name": candidate.name,
        "category": candidate.category,
        "similarity_score": round(match.similarity_score, 2),
        "rank": match.rank,
        "image_url": image.file.url if image else "",
        "product_image_url": match.product_image.file.url if match.product_image else None,
        "review_status": match.review_status,
        "note": match.note,
        "found_later": match.pk in later,
        "probability": rounded(match.probability),
        "evidence": match.evidence,
    }
