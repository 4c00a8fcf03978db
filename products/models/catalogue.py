"""Products, their images and features. The images' states are the embedding queue."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.conf import settings
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Length
from django.db.models.lookups import Exact, GreaterThan
from django.utils.translation import gettext_lazy as _

from core.deletion import BulkDeletable
from core.history.recording import AuditTrail
from core.request_id import MAX_LENGTH
from gpu.images import DECODING
from gpu.vectors import COLOR_BINS, SHAPE_DIM, TEXTURE_BINS, Features, checksum_blobs
from products.attributes import AttributesField
from products.images import storage


class BlobLength(models.Func):
    """The length of a BLOB column in bytes, on every database."""

    function = "LENGTH"
    output_field = models.IntegerField()


class Product(BulkDeletable):
    sku = models.CharField(_("SKU"), max_length=200, blank=True, default="")
    name = models.CharField(_("name"), max_length=500, blank=True, default="")
    category = models.CharField(_("category"), max_length=200, blank=True, default="")
    description = models.TextField(_("description"), blank=True, default="")
    is_historical = models.BooleanField(
        _("part of the catalogue"),
        default=False,
        help_text=_("Catalogue products are what new products are compared with."),
    )
    gtin = models.CharField(
        _("GTIN"), max_length=50, blank=True, default="", help_text=_("The number below the barcode: EAN, UPC or ISBN.")
    )
    mpn = models.CharField(
        _("MPN"), max_length=100, blank=True, default="", help_text=_("The manufacturer's part number.")
    )
    brand = models.CharField(_("brand"), max_length=200, blank=True, default="")
    price = models.DecimalField(
        _("price"), max_digits=14, decimal_places=4, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    currency = models.CharField(
        _("currency"),
        max_length=3,
        blank=True,
        default="",
        validators=[RegexValidator("^[A-Za-z]{3}$", _("A currency is a code of three letters, such as EUR."))],
    )
    attributes = AttributesField(_("attributes"), default=dict, blank=True)
    # Of a catalogue product: since when open cases wait to be compared with it, see matching.newcomers.
    unmatched_since = models.DateTimeField(
        _("unmatched since"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("A new product's features have changed since its last matching."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)
    history = AuditTrail("product_history", excluded_fields=("unmatched_since", "created_at", "updated_at"))

    class Meta:
        db_table = "products"
        verbose_name = _("product")
        verbose_name_plural = _("products")
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(fields=["sku"], condition=~Q(sku=""), name="product_sku_unique_where_given"),
        ]
        indexes = [
            # The lists of the API and the admin, newest first, filtered by historical and category.
            models.Index(fields=["is_historical", "category", "-id"], name="product_list"),
            # Products added between two days, and the list by day.
            models.Index(fields=["created_at"], name="product_added"),
            # Products of the same identifier. Not partial: SQLite cannot tell that a parameter is not empty.
            models.Index(fields=["gtin"], name="product_gtin"),
            models.Index(fields=["mpn"], name="product_mpn"),
            # The choices of the category filter, and the list of one category.
            models.Index(fields=["category", "-id"], name="product_category"),
            # The sweep: new products that are not matched yet.
            models.Index(
                fields=["unmatched_since"], condition=Q(unmatched_since__isnull=False), name="product_unmatched"
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.sku or f"#{self.pk}"

    @classmethod
    def rows_to_lock_first(cls, chosen: models.QuerySet[Any]) -> models.QuerySet[ProductImage]:
        """Return the products' images, because workers lock images before products."""
        return ProductImage.objects.filter(product__in=chosen)


def image_path(_image: ProductImage, _filename: str) -> str:
    """Return a new image's random path, which never contains the uploaded name."""
    return storage.new_file_name()


def current_decoding() -> int:
    """Return the version of the decoding that makes images now."""
    return DECODING


class ProductImage(BulkDeletable):
    class State(models.TextChoices):
        PENDING = "pending", _("pending")
        CLAIMED = "claimed", _("claimed")
        READY = "ready", _("ready")
        FAILED = "failed", _("failed")

    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="images", verbose_name=_("product"))
    file = models.ImageField(_("file"), upload_to=image_path, max_length=200)
    original_name = models.CharField(_("original name"), max_length=255, blank=True, default="")
    sha256 = models.CharField(_("SHA-256 of the uploaded file"), max_length=64)
    file_sha256 = models.CharField(
        _("SHA-256 of the stored file"),
        max_length=64,
        blank=True,
        default="",
        help_text=_("Detects a damaged file. Images without it are decoded instead."),
    )
    thumbnail_sha256 = models.CharField(
        _("SHA-256 of the thumbnail"),
        max_length=64,
        blank=True,
        default="",
        help_text=_("Detects a damaged thumbnail. `manage.py verify --fix` computes it where it is missing."),
    )
    # The sizes are null for an image that was stored before they were recorded and whose files were missing then.
    file_bytes = models.PositiveIntegerField(_("size of the stored file"), null=True, editable=False)
    thumbnail_bytes = models.PositiveIntegerField(_("size of the thumbnail"), null=True, editable=False)
    original_bytes = models.PositiveIntegerField(_("size of the kept original"), null=True, editable=False)
    width = models.PositiveIntegerField(_("width"))
    height = models.PositiveIntegerField(_("height"))
    decoding = models.PositiveSmallIntegerField(
        _("version of the decoding"),
        default=current_decoding,
        editable=False,
        help_text=_("Images of an earlier version may show wrong colours. `manage.py reindex` makes them again."),
    )
    # See gpu.imaging.barcodes. 0: it was not searched for barcodes yet.
    barcode_reader = models.PositiveSmallIntegerField(_("version of the barcode reader"), default=0, editable=False)
    position = models.PositiveIntegerField(_("position"), default=0)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.PENDING)
    error_code = models.CharField(_("error code"), max_length=40, blank=True, default="")
    error_message = models.CharField(_("error"), max_length=500, blank=True, default="")
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    claim_token = models.UUIDField(_("claim"), null=True, blank=True)
    claimed_at = models.DateTimeField(_("claimed at"), null=True, blank=True)
    embedded_with = models.CharField(
        _("embedded with"),
        max_length=200,
        blank=True,
        default="",
        help_text=_("The model of its best features: the CLIP model, the legacy version, or empty."),
    )
    request_id = models.CharField(
        _("request"),
        max_length=MAX_LENGTH,
        blank=True,
        default="",
        help_text=_("The id of the upload's request, which the worker's log lines repeat."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)
    history = AuditTrail(
        "product_image_history",
        excluded_fields=(
            "file", "sha256", "file_sha256", "thumbnail_sha256", "file_bytes", "thumbnail_bytes", "original_bytes",
            "width", "height", "decoding", "barcode_reader", "position", "state", "error_code", "error_message",
            "attempts", "claim_token", "claimed_at", "embedded_with", "request_id", "created_at", "updated_at",
        ),
    )  # fmt: skip

    class Meta:
        db_table = "product_images"
        verbose_name = _("image")
        verbose_name_plural = _("images")
        ordering = ("product", "position", "id")
        constraints = [
            models.UniqueConstraint(fields=["product", "sha256"], name="image_once_per_product"),
            models.CheckConstraint(condition=Exact(Length(F("sha256")), 64), name="image_sha256_length"),
            models.CheckConstraint(
                condition=Q(state="claimed", claim_token__isnull=False, claimed_at__isnull=False)
                | (~Q(state="claimed") & Q(claim_token__isnull=True, claimed_at__isnull=True)),
                name="image_claim_belongs_to_claimed",
            ),
        ]
        indexes = [
            # The worker's claim, /readyz and /metrics: the images that have been pending longest.
            models.Index(fields=["updated_at", "id"], condition=Q(state="pending"), name="image_pending_turn"),
            # The sweep: claims whose lease is over.
            models.Index(fields=["claimed_at"], condition=Q(state="claimed"), name="image_claimed"),
            # reindex --failed, and the admin's list of failures.
            models.Index(fields=["id"], condition=Q(state="failed"), name="image_failed"),
            # The sweep, reindex --missing and search: images without features of the current model.
            models.Index(fields=["embedded_with", "state"], name="image_embedded_with"),
            # duplicate_of at intake.
            models.Index(fields=["sha256"], name="image_sha256"),
            # Quotas, doctor and /metrics: the sum of all sizes, from the index alone.
            models.Index(fields=["file_bytes", "thumbnail_bytes", "original_bytes"], name="image_bytes"),
            # The sweep and reindex: images whose barcodes were not read by the current reader.
            models.Index(fields=["barcode_reader", "id"], name="image_barcode_reader"),
        ]

    def __str__(self) -> str:
        return f"{self.original_name or self.file.name} ({self.state})"

    @classmethod
    def before_deletion(cls, rows: models.QuerySet[Any]) -> None:
        """Remove the files of these images once the deletion is committed."""
        transaction.on_commit(partial(storage.delete_files, list(rows.values_list("file", flat=True))), robust=True)

    @property
    def thumbnail_name(self) -> str:
        return storage.thumbnail_name(str(self.file.name))

    @property
    def thumbnail_url(self) -> str:
        return str(self.file.storage.url(self.thumbnail_name))


class Barcode(models.Model):
    """A GTIN that was read from an image. A user may have said that it is not the product's."""

    image = models.ForeignKey(ProductImage, on_delete=models.CASCADE, related_name="barcodes", verbose_name=_("image"))
    number = models.CharField(_("number"), max_length=14, help_text=_("A GTIN or ISBN with a check digit, 14 digits."))
    removed_at = models.DateTimeField(_("removed"), null=True, blank=True)
    removed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+",
        verbose_name=_("removed by"),
    )  # fmt: skip

    class Meta:
        db_table = "image_barcodes"
        verbose_name = _("barcode")
        verbose_name_plural = _("barcodes")
        ordering = ("id",)
        constraints = [
            models.UniqueConstraint(fields=["image", "number"], name="barcode_once_per_image"),
            models.CheckConstraint(condition=Exact(Length(F("number")), 14), name="barcode_number_length"),
        ]
        # Products with this barcode.
        indexes = [models.Index(fields=["number"], name="barcode_number")]

    def __str__(self) -> str:
        return self.printed

    @property
    def printed(self) -> str:
        return printed(self.number)


def printed(number: str) -> str:
    """Return a GTIN of 14 digits as packs show it: with 8, 13 or 14 digits."""
    return number[6:] if number.startswith("000000") else number.removeprefix("0")


class Feature(models.Model):
    class Kind(models.TextChoices):
        CLIP = "clip", _("CLIP")
        LEGACY = "legacy", _("legacy")
        HEAD = "head", _("learned head")

    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="features", verbose_name=_("product"))
    image = models.ForeignKey(ProductImage, on_delete=models.CASCADE, related_name="features", verbose_name=_("image"))
    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    model_name = models.CharField(_("model"), max_length=200)
    dim = models.PositiveIntegerField(_("dimensions"), validators=[MinValueValidator(1)])
    color_features = models.BinaryField(_("colour features or embedding"))
    shape_features = models.BinaryField(_("shape features"), default=bytes)
    texture_features = models.BinaryField(_("texture features"), default=bytes)
    checksum = models.BigIntegerField(
        _("checksum"),
        null=True,
        editable=False,
        help_text=_("Detects damaged features. `manage.py verify --fix` computes it where it is missing."),
    )
    # Those of the image when the feature was computed. If the image has another one since, its pixels have changed.
    decoding = models.PositiveSmallIntegerField(_("version of the decoding"), default=current_decoding, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        db_table = "features"
        verbose_name = _("feature")
        verbose_name_plural = _("features")
        constraints = [
            models.UniqueConstraint(fields=["image", "kind", "model_name"], name="feature_once_per_model"),
            models.CheckConstraint(
                condition=(
                    Q(kind__in=["clip", "head"])  # type: ignore[arg-type]  # combined with lookups it stays a Q; the stubs differ
                    & GreaterThan(F("dim"), 0)
                    & Exact(BlobLength("color_features"), 4 * F("dim"))
                    & Exact(BlobLength("shape_features"), 0)
                    & Exact(BlobLength("texture_features"), 0)
                )
                | (
                    Q(kind="legacy", dim=COLOR_BINS)
                    & Exact(BlobLength("color_features"), COLOR_BINS)
                    & Exact(BlobLength("shape_features"), 4 * SHAPE_DIM)
                    & Exact(BlobLength("texture_features"), TEXTURE_BINS)
                ),
                name="feature_blob_lengths",
            ),
        ]
        indexes = [
            # Loading one model's vectors into the search index, in a stable order.
            models.Index(fields=["kind", "model_name", "id"], name="feature_model"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.model_name} ({self.dim})"

    def to_features(self) -> Features:
        """Return the stored BLOBs as vectors. Raises ValueError for wrong lengths."""
        return Features.from_blobs(
            self.kind,  # type: ignore[arg-type]  # a choice of Kind, which has the same values
            self.model_name,
            bytes(self.color_features),
            bytes(self.shape_features),
            bytes(self.texture_features),
        )

    @property
    def is_damaged(self) -> bool:
        """Return whether the BLOBs are not what was stored. Features without a checksum count as intact."""
        try:
            return self.checksum is not None and self.checksum != self.current_checksum()
        except TypeError:  # a damaged row can have a number instead of a BLOB
            return True

    def current_checksum(self) -> int:
        """Return the checksum of the BLOBs as they are now."""
        blobs = (self.color_features, self.shape_features, self.texture_features)
        return checksum_blobs(self.kind, self.model_name, *blobs)

    @staticmethod
    def columns(features: Features) -> dict[str, Any]:
        """Return the column values that store ``features``, with their checksum."""
        color, shape, texture = features.to_blobs()
        return {
            "kind": features.kind,
            "model_name": features.model_name,
            "dim": features.dim,
            "color_features": color,
            "shape_features": shape,
            "texture_features": texture,
            "checksum": checksum_blobs(features.kind, features.model_name, color, shape, texture),
        }
