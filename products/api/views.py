"""The catalogue's API: products, their images, and the state of the queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import django_filters
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import generics
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.admin.paging import MAX_SEARCH_LENGTH
from products import embedding
from products.api import serializers
from products.api.etags import IF_MATCH, check_product, if_match, product_version, with_etag
from products.api.pages import ProductPages
from products.images import intake
from products.images.cleaning import Upload, read_bounded
from products.merges import MovedError, moved_to, product_with_sku
from products.models import Product, ProductImage, ProductMerge, SameAs
from products.queue import claims
from products.text.search import search

WAIT = OpenApiParameter(
    "wait",
    float,
    description=(
        f"Seconds to wait for the features (0 to {settings.UPLOAD_WAIT_MAX_SECONDS:g}, "
        f"default {settings.UPLOAD_WAIT_SECONDS:g})."
    ),
)


def wait_of(request: Request) -> float:
    """Return the seconds of ``?wait=``. Raises ValidationError."""
    query = serializers.WaitSerializer(data=request.query_params)
    query.is_valid(raise_exception=True)
    return float(query.validated_data["wait"])


def uploads_of(files: Iterable[UploadedFile[bytes]]) -> Iterator[Upload]:
    """Return the uploads one at a time. Raises ImageProcessingError if too large."""
    return (Upload(read_bounded(file), file.name or "") for file in files)


class UploadView(APIView):
    permission_map = {"POST": "products.add_product"}
    parser_classes = [MultiPartParser, FormParser]

    @extend_schema(
        operation_id="products_upload",
        parameters=[WAIT],
        request={"multipart/form-data": serializers.UploadSerializer},
        responses={200: serializers.UploadedSerializer, 201: serializers.UploadedSerializer},
    )
    def post(self, request: Request) -> Response:
        """Add a product with its images.

        Returns when the features are stored, or after `wait` seconds with status `pending`. An upload with the SKU
        and images of an existing product returns that product (200).
        """
        wait = wait_of(request)
        form = serializers.UploadSerializer(data=form_data(request))
        form.is_valid(raise_exception=True)
        fields = dict(form.validated_data)
        result = intake.add_product(uploads_of(fields.pop("image")), **fields)
        return _upload_response(result, wait)


class ProductFilter(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    state = django_filters.ChoiceFilter(
        choices=ProductImage.State.choices, method="has_image_in_state", label="Products with an image in this state"
    )
    search = django_filters.CharFilter(
        method="contains_text",
        max_length=MAX_SEARCH_LENGTH,
        label=(
            "Words or parts of them, in the SKU, name, category, description, brand, GTIN, MPN or attributes. If no "
            "product has all, those that nearly have them."
        ),
    )
    same_as = django_filters.NumberFilter(
        method="is_same_as", label="Products that were decided to be the same as the one with this id"
    )

    sku = django_filters.CharFilter(
        method="has_sku", max_length=200, label="The SKU, also that of a product that was merged into another"
    )

    class Meta:
        model = Product
        fields = ("is_historical", "category", "sku", "gtin", "mpn", "brand")

    def has_image_in_state(self, products: QuerySet[Product], _name: str, state: str) -> QuerySet[Product]:
        return products.filter(pk__in=ProductImage.objects.filter(state=state).values("product"))

    def has_sku(self, products: QuerySet[Product], _name: str, sku: str) -> QuerySet[Product]:
        found = product_with_sku(sku)
        return products.filter(pk=found.pk) if found is not None else products.none()

    def is_same_as(self, products: QuerySet[Product], _name: str, other: Any) -> QuerySet[Product]:
        return products.filter(pk__in=SameAs.objects.filter(other=other).values("product"))

    def contains_text(self, products: QuerySet[Product], _name: str, text: str) -> QuerySet[Product]:
        merged = ProductMerge.objects.filter(old_sku__icontains=text).values("kept")
        return search(products, text) | products.filter(pk__in=merged)


class ProductListView(ProductPages):
    permission_map = {"GET": "products.view_product"}
    queryset = Product.objects.prefetch_related("images__barcodes", "same_as_links").order_by("-id")
    serializer_class = serializers.ProductSerializer
    filterset_class = ProductFilter


@extend_schema_view(patch=extend_schema(parameters=[IF_MATCH]), delete=extend_schema(parameters=[IF_MATCH]))
class ProductView(generics.RetrieveUpdateDestroyAPIView[Product]):
    permission_map = {
        "GET": "products.view_product",
        "PATCH": "products.change_product",
        "DELETE": "products.delete_product",
    }
    http_method_names = ["get", "patch", "delete", "head", "options"]
    queryset = Product.objects.prefetch_related("images__barcodes", "same_as_links")
    serializer_class = serializers.ProductSerializer

    def get_object(self) -> Product:
        """Return the product. Raises MovedError if it was merged into another, unless it would be deleted."""
        try:
            return super().get_object()
        except Http404:
            moved = moved_to(self.kwargs["pk"]) if self.request.method != "DELETE" else None
            if moved is None:
                raise
            raise MovedError(moved) from None

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return a product. The id of a product that was merged is redirected to that one (308)."""
        product = self.get_object()
        return with_etag(Response(self.get_serializer(product).data), product_version(product))

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change fields. With `If-Match`, only if the product is still the one that was read."""
        with self._matching(request):
            response = super().update(request, *args, **kwargs)
        return with_etag(response, product_version(self.get_object()))

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete the product. With `If-Match`, only if it is still the one that was read."""
        with self._matching(request):
            return super().destroy(request, *args, **kwargs)

    def perform_update(self, serializer: Any) -> None:
        intake.change_product(serializer.instance, serializer.validated_data)

    @contextmanager
    def _matching(self, request: Request) -> Iterator[None]:
        """Compare with If-Match, if there is one, while no other request can change the product."""
        version = if_match(request)
        if version is None:
            yield
            return
        with transaction.atomic():
            pk = self.kwargs["pk"]
            # Images before products, as workers and deletions lock them.
            list(ProductImage.objects.select_for_update().filter(product=pk).order_by("pk").values_list("pk"))
            list(Product.objects.select_for_update().filter(pk=pk).values_list("pk"))
            check_product(self.get_object(), version)
            yield


class ProductImagesView(APIView):
    permission_map = {"POST": "products.change_product"}
    parser_classes = [MultiPartParser, FormParser]

    @extend_schema(
        operation_id="products_add_view",
        parameters=[WAIT],
        request={"multipart/form-data": serializers.ImagesSerializer},
        responses={200: serializers.ImageAddedSerializer, 201: serializers.ImageAddedSerializer},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Add images to a product. Returns 200 if it has all of them already."""
        wait = wait_of(request)
        product = Product.objects.get(pk=pk)
        form = serializers.ImagesSerializer(data=form_data(request))
        form.is_valid(raise_exception=True)
        result = intake.add_images(product, uploads_of(form.validated_data["image"]))
        return _upload_response(result, wait, image_id=result.images[0].pk)


class QueueView(APIView):
    permission_map = {"GET": "products.view_product"}

    @extend_schema(operation_id="queue", responses=serializers.QueueSerializer)
    def get(self, request: Request) -> Response:
        """Return the number of images in each state and the time until all are embedded."""
        return Response(claims.queue_status())


def form_data(request: Request) -> dict[str, Any]:
    """Return a multipart form as a dict. ``image`` is always a list."""
    return {**request.POST.dict(), "image": request.FILES.getlist("image")}


def _upload_response(result: intake.IntakeResult, wait: float, **extra: Any) -> Response:
    feature_type = embedding.wait_for_features([image.pk for image in result.images], wait)
    body = {
        "product_id": result.product.pk,
        "status": "success" if feature_type else "pending",
        "features_extracted": feature_type is not None,
        "feature_type": feature_type,
        "duplicate_of": result.duplicate_of,
    }
    return Response(body | extra, status=201 if result.created else 200)
