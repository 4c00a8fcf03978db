"""The API of merges: what a merge would do, merge two products, undo a merge."""

from __future__ import annotations

from typing import Any, cast

from django.contrib.auth.models import User
from django.db.models import BigIntegerField
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from matching.api.serializers import KeptSerializer
from matching.duplicates import merging, unmerging
from matching.duplicates.merging import Value
from products.api.etags import product_version, with_etag
from products.api.serializers import ProductSerializer
from products.models import Product

MAX_TAKEN = 600  # more values than a product can have


class OtherSerializer(serializers.Serializer[Any]):
    product_id = serializers.IntegerField(
        min_value=1, max_value=BigIntegerField.MAX_BIGINT, help_text="The product that is merged into this one."
    )


class MergeSerializer(OtherSerializer):
    take = serializers.ListField(
        child=serializers.CharField(max_length=300), required=False, default=list, max_length=MAX_TAKEN,
        help_text="Keys of the conflicts in which the other product's value is kept, such as `brand`.",
    )  # fmt: skip
    version = serializers.CharField(
        required=False, default=None, allow_null=True, max_length=100,
        help_text="Of the preview (else 409 stale if a product has changed since).",
    )  # fmt: skip


class ValueSerializer(serializers.Serializer[Any]):
    key = serializers.CharField()
    kept = serializers.JSONField(allow_null=True)
    other = serializers.JSONField(allow_null=True)


class PreviewSerializer(serializers.Serializer[Any]):
    version = serializers.CharField(help_text="Send it with the merge.")
    conflicts = ValueSerializer(many=True, help_text="Both have a value. The kept product's wins, unless it is taken.")
    filled = ValueSerializer(many=True, help_text="Only the other product has a value. The kept one gets it.")
    images = serializers.IntegerField(help_text="Images that the kept product gets.")
    identical_images = serializers.IntegerField(help_text="Images that it has already.")
    matches = serializers.IntegerField(help_text="Matches that name the kept product afterwards.")
    decisions = serializers.IntegerField(help_text="Cases with verdicts among them.")
    joins_catalogue = serializers.BooleanField(help_text="The kept product becomes part of the catalogue.")


class MergeView(APIView):
    permission_map = {
        "GET": "products.view_product",
        "POST": "products.delete_product",
        "DELETE": "products.delete_product",
    }

    @extend_schema(
        operation_id="products_merge_preview",
        parameters=[OpenApiParameter("product_id", int, required=True, description="The other product.")],
        responses=PreviewSerializer,
    )
    def get(self, request: Request, pk: int) -> Response:
        """Return what merging another product into this one would do. Changes nothing."""
        form = OtherSerializer(data=request.query_params)
        form.is_valid(raise_exception=True)
        planned = merging.preview(pk, form.validated_data["product_id"])
        return Response(
            {
                "version": planned.version,
                "conflicts": list(map(_value, planned.conflicts)),
                "filled": list(map(_value, planned.filled)),
                "images": planned.images,
                "identical_images": planned.identical_images,
                "matches": planned.matches,
                "decisions": planned.decisions,
                "joins_catalogue": planned.joins_catalogue,
            }
        )

    @extend_schema(operation_id="products_merge", request=MergeSerializer, responses=ProductSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Merge another product into this one: images, missing values, matches and decisions.

        The other product's id is redirected to this one, and its SKU finds this one, also in imports. `DELETE` with the
        other product's id undoes the merge.
        """
        form = MergeSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        values = form.validated_data
        merging.merge(pk, values["product_id"], cast(User, request.user), values["take"], values["version"])
        product = Product.objects.prefetch_related("images", "same_as_links").get(pk=pk)
        return with_etag(Response(ProductSerializer(product).data), product_version(product))

    @extend_schema(
        operation_id="products_unmerge", request=None, responses={200: KeptSerializer, 204: None}
    )  # fmt: skip
    def delete(self, request: Request, pk: int) -> Response:
        """Undo the merge of the product that had this id.

        204 if both are as before. 200 if something stays because a user has changed it since: `kept` names it.
        """
        kept = unmerging.undo(pk, cast(User, request.user))
        return Response({"kept": kept}) if kept else Response(status=204)


def _value(value: Value) -> dict[str, Any]:
    return {"key": value.key, "kept": value.kept, "other": value.other}
