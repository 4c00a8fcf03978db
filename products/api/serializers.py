"""Serializers of the requests and responses of the catalogue's API."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.conf import settings
from rest_framework import serializers

from core.database.bounded_json import BoundedJSONDecoder
from products.models import Feature, Product, ProductImage
from products.validation import MAX_DESCRIPTION_LENGTH


class ImageSerializer(serializers.ModelSerializer[ProductImage]):
    image_url = serializers.SerializerMethodField()
    thumbnail_url = serializers.CharField(read_only=True)
    barcodes = serializers.SerializerMethodField(help_text="GTINs read from the image, 8, 13 or 14 digits each.")

    class Meta:
        model = ProductImage
        fields = (
            "id", "image_url", "thumbnail_url", "original_name", "sha256", "width", "height", "position",
            "state", "error_code", "error_message", "attempts", "embedded_with", "barcodes", "created_at",
        )  # fmt: skip
        read_only_fields = fields

    def get_image_url(self, image: ProductImage) -> str:
        return str(image.file.url)

    def get_barcodes(self, image: ProductImage) -> list[str]:
        return [barcode.printed for barcode in image.barcodes.all() if barcode.removed_at is None]


class ProductSerializer(serializers.ModelSerializer[Product]):
    # Without a uniqueness check: the database rejects a taken SKU, with the same error code as for uploads.
    sku = serializers.CharField(max_length=200, required=False, allow_blank=True)
    images = ImageSerializer(many=True, read_only=True)
    same_as = serializers.SerializerMethodField(help_text="Ids of the products that it was decided to be the same as.")

    class Meta:
        model = Product
        fields = (
            "id", "sku", "name", "category", "description", "is_historical",
            "gtin", "mpn", "brand", "price", "currency", "attributes", "same_as", "created_at", "updated_at", "images",
        )  # fmt: skip
        read_only_fields = ("id", "created_at", "updated_at", "images")
        extra_kwargs = {
            "attributes": {"decoder": BoundedJSONDecoder},  # of forms; a JSON body is parsed before
            "price": {"normalize_output": True},
        }

    def get_same_as(self, product: Product) -> list[int]:
        return [link.other_id for link in product.same_as_links.all()]


class WaitSerializer(serializers.Serializer[Any]):
    """``?wait=``: seconds to wait for the features."""

    wait = serializers.FloatField(
        required=False, default=settings.UPLOAD_WAIT_SECONDS, min_value=0, max_value=settings.UPLOAD_WAIT_MAX_SECONDS
    )


class ImagesSerializer(serializers.Serializer[Any]):
    """One or more files under ``image``, whose contents intake checks."""

    image = serializers.ListField(
        child=serializers.FileField(allow_empty_file=True, max_length=1000),
        min_length=1,
        max_length=settings.MAX_PICTURES_PER_REQUEST,
    )


class UploadSerializer(ImagesSerializer):
    sku = serializers.CharField(max_length=200, required=False, default="", allow_blank=True)
    name = serializers.CharField(max_length=500, required=False, default="", allow_blank=True)
    category = serializers.CharField(max_length=200, required=False, default="", allow_blank=True)
    description = serializers.CharField(max_length=MAX_DESCRIPTION_LENGTH, required=False, default="", allow_blank=True)
    is_historical = serializers.BooleanField(required=False, default=False)
    gtin = serializers.CharField(max_length=50, required=False, default="", allow_blank=True)
    mpn = serializers.CharField(max_length=100, required=False, default="", allow_blank=True)
    brand = serializers.CharField(max_length=200, required=False, default="", allow_blank=True)
    price = serializers.DecimalField(
        max_digits=14, decimal_places=4, min_value=Decimal(0), required=False, default=None, allow_null=True
    )
    currency = serializers.CharField(max_length=3, required=False, default="", allow_blank=True)
    unless_known = serializers.BooleanField(
        source="skip_duplicates",
        required=False,
        default=False,
        help_text="If a product has all these images already, return that product (200) and add nothing.",
    )


class UploadedSerializer(serializers.Serializer[Any]):
    product_id = serializers.IntegerField()
    status = serializers.ChoiceField(choices=["success", "pending"])
    features_extracted = serializers.BooleanField()
    feature_type = serializers.ChoiceField(choices=Feature.Kind.choices, allow_null=True)
    duplicate_of = serializers.IntegerField(allow_null=True)


class ImageAddedSerializer(UploadedSerializer):
    image_id = serializers.IntegerField()


class QueueSerializer(serializers.Serializer[Any]):
    pending = serializers.IntegerField()
    claimed = serializers.IntegerField()
    ready = serializers.IntegerField()
    failed = serializers.IntegerField()
    images_per_second = serializers.FloatField(allow_null=True)
    eta_seconds = serializers.FloatField(allow_null=True)
