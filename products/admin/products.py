"""Products in the admin: the list, a product's page, upload and embedding again.

``matching.admin`` registers products with a subclass of ``ProductAdmin`` that adds their matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST
from unfold.admin import TabularInline
from unfold.contrib.filters.admin import BooleanRadioFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from core.admin.export import ExportAdmin
from core.admin.history import HistoryRecords
from core.admin.paging import MAX_SEARCH_LENGTH, LongListAdmin, search_words
from core.admin.requests import require_permissions
from core.database.batches import iter_pk_batches
from core.spreadsheets.export import ExportTable
from products import exporting, merges, requeue
from products.admin import bulk_delete, imports, upload
from products.admin.attributes import AttributesWidget
from products.admin.bulk_delete import BulkDeleteAdmin
from products.admin.filters import CategoryFilter, ImageStateFilter, categories
from products.admin.history import CatalogueHistoryAdmin
from products.attributes import clean_attributes
from products.images import barcodes, intake
from products.models import Feature, Product, ProductImage
from products.prices import format_price
from products.queue import claims
from products.text.search import search
from products.validation import validate_fields


class ProductForm(forms.ModelForm):  # type: ignore[type-arg]  # Django's own is not generic
    class Meta:
        widgets = {
            "description": UnfoldAdminTextareaWidget(attrs={"rows": 3}),
            "category": UnfoldAdminTextInputWidget(attrs={"list": "categories", "autocomplete": "off"}),
            "attributes": AttributesWidget(),
        }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.initial["price"] = format_price(self.instance.price)

    def clean_sku(self) -> str:
        sku = str(self.cleaned_data["sku"]).strip()
        if intake.find_other_with_sku(Product(pk=self.instance.pk, sku=sku)):
            raise ValidationError(_("Another product has this SKU."), code="sku_exists")
        return sku

    def clean_attributes(self) -> dict[str, Any]:
        widget = self.fields["attributes"].widget
        if isinstance(widget, AttributesWidget) and (repeated := widget.repeated(self.data, "attributes")):
            text = _("Two attributes have the same name: %(names)s.") % {"names": ", ".join(repeated)}
            raise ValidationError(text, code="repeated_attribute")
        return clean_attributes(self.cleaned_data["attributes"])

    def clean(self) -> dict[str, Any]:
        validate_fields({name: self.cleaned_data[name] for name in self.changed_data if name in self.cleaned_data})
        return self.cleaned_data


class ReadOnlyInline(TabularInline):
    extra = 0
    hide_title = True
    show_change_link = False

    def has_add_permission(self, _request: HttpRequest, _obj: Any = None) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: Any = None) -> bool:
        return False


class ImageInline(ReadOnlyInline):
    """Shows and removes images. Only intake adds them."""

    model = ProductImage
    verbose_name_plural = _("images")
    fields = readonly_fields = ("thumbnail", "state_badge", "embedded_with", "size", "original_name", "created_at")

    @display(description=_("image"))
    def thumbnail(self, image: ProductImage) -> str:
        return render_to_string("catalogmatch/image.html", {"image": image})

    @display(description=_("state"))
    def state_badge(self, image: ProductImage) -> str:
        return render_to_string("catalogmatch/image_state.html", {"state": image.state, "image": image})

    @display(description=_("size"))
    def size(self, image: ProductImage) -> str:
        return f"{image.width} × {image.height}"


class FeatureInline(ReadOnlyInline):
    model = Feature
    can_delete = False
    fields = readonly_fields = ("kind", "model_name", "dim", "image", "created_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Feature]:
        blobs = ("color_features", "shape_features", "texture_features")
        queryset: QuerySet[Feature] = super().get_queryset(request)
        return queryset.select_related("image").defer(*blobs)


class ProductAdmin(LongListAdmin, BulkDeleteAdmin, CatalogueHistoryAdmin, ExportAdmin):
    form = ProductForm
    list_display: tuple[str, ...] = ("summary", "category", "catalogue_badge", "images_state", "added")
    list_filter: tuple[Any, ...] = (("is_historical", BooleanRadioFilter), CategoryFilter, ImageStateFilter)
    list_filter_submit = True
    list_per_page = 50
    search_fields = ("sku", "name", "category", "brand", "gtin", "mpn")
    search_help_text = _("Words of any field or attribute")
    ordering = ("-id",)
    sortable_by = ("category", "added")
    fields = (
        ("sku", "name"),
        ("category", "brand"),
        ("gtin", "mpn"),
        ("price", "currency"),
        "is_historical",
        "description",
        "attributes",
    )
    inlines = (ImageInline, FeatureInline)
    actions: tuple[str, ...] = ("embed_again", "export_csv", "export_xlsx", "delete_selected")
    change_form_outer_before_template = "catalogmatch/product_panel.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Product]:
        queryset: QuerySet[Product] = super().get_queryset(request)
        return queryset.prefetch_related("images").defer("description", "attributes")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Product], search_term: str
    ) -> tuple[QuerySet[Product], bool]:
        """Find the SKUs of products that were merged too."""
        found = search(queryset, " ".join(search_words(search_term)))
        merged = merges.ids_of_old_skus(search_term.strip()[:MAX_SEARCH_LENGTH])
        if not merged:
            return found, False
        return queryset.filter(Q(pk__in=merged) | Q(pk__in=found.order_by().values("pk"))), False

    @display(description=_("product"))
    def summary(self, product: Product) -> str:
        return render_to_string("catalogmatch/product_cell.html", {"product": product})

    @display(description=_("kind"), ordering="is_historical")
    def catalogue_badge(self, product: Product) -> str:
        return render_to_string("catalogmatch/catalogue_badge.html", {"product": product})

    @display(description=_("added"), ordering="created_at")
    def added(self, product: Product) -> str:
        return date_format(timezone.localtime(product.created_at), "j M Y")

    @display(description=_("images"))
    def images_state(self, product: Product) -> str:
        context = {
            "state": claims.aggregate_state(image.state for image in product.images.all()),
            "count": len(product.images.all()),
        }
        return render_to_string("catalogmatch/image_state.html", context)

    @admin.action(description=_("Embed again"), permissions=["change"])
    def embed_again(self, request: HttpRequest, products: QuerySet[Product]) -> None:
        self._embed_again(request, products)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the upload form, since a new product comes with its images."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        return upload.upload(request)

    def save_model(self, request: HttpRequest, obj: Product, form: Any, change: bool) -> None:
        """Save only the changed fields: a worker may have written to the row since it was read."""
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        try:
            intake.change_product(get_object_or_404(Product, pk=obj.pk), changes)
        except Product.DoesNotExist as error:
            raise Http404(_("This product no longer exists.")) from error

    def get_urls(self) -> list[URLPattern]:
        urls = [
            path("<int:pk>/views/", self._post(self.post_images), name="products_product_views"),
            path("<int:pk>/barcodes/", self._post(self.post_barcode), name="products_product_barcodes"),
            path("<int:pk>/embed/", self._post(self.post_embed), name="products_product_embed"),
        ]
        jobs = imports.urls(self.admin_site) + bulk_delete.urls(self.admin_site)
        return urls + jobs + list(super().get_urls())

    def post_images(self, request: HttpRequest, product: Product) -> HttpResponse:
        return upload.add_images(request, product)

    def post_barcode(self, request: HttpRequest, product: Product) -> HttpResponse:
        """Take back a barcode that is not the product's, or put it back."""
        number, is_wrong = request.POST.get("number", ""), "put_back" not in request.POST
        if barcodes.mark(product, number, is_wrong=is_wrong, user=request.user):
            text = _("The barcode no longer counts.") if is_wrong else _("The barcode counts again.")
            messages.success(request, f"{text} {_('The product is matched again.')}")
        else:
            messages.warning(request, _("The product has no such barcode any more. Nothing was changed."))
        return redirect("admin:products_product_change", product.pk)

    def post_embed(self, request: HttpRequest, product: Product) -> HttpResponse:
        self._embed_again(request, Product.objects.filter(pk=product.pk))
        return redirect("admin:products_product_change", product.pk)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        product = Product.objects.filter(pk=object_id).first() if object_id.isdecimal() else None
        context = {
            "images_form": upload.AddImagesForm(),
            "barcodes": barcodes.of_product(product) if product is not None else [],
            "categories": categories(),
            **(extra_context or {}),
        }
        response: HttpResponse = super().change_view(request, object_id, form_url, context)
        return response

    def _post(self, view: Any, permission: str = "products.change_product") -> Any:
        """Return a view of one product that takes POST from users with this permission."""

        def checked_view(request: HttpRequest, pk: int) -> HttpResponse:
            require_permissions(request, permission)
            response: HttpResponse = view(request, get_object_or_404(Product, pk=pk))
            return response

        return self.admin_site.admin_view(require_POST(checked_view))

    def _embed_again(self, request: HttpRequest, products: QuerySet[Product]) -> None:
        count = sum(claims.requeue("all", ids) for ids in iter_pk_batches(products))
        text = ngettext("%d image is embedded again.", "%d images are embedded again.", count) % count
        messages.success(request, text)
        if not requeue.embed_soon(ProductImage.objects.filter(product__in=products.order_by().values("pk"))):
            messages.warning(request, requeue.TOO_MANY_TO_WAIT_FOR)

    def deletion_counts(self, rows: QuerySet[Product]) -> list[tuple[str, int]]:
        image_count = ProductImage.objects.filter(product__in=rows.order_by().values("pk")).count()
        return [(str(ProductImage._meta.verbose_name_plural), image_count)]

    def history_records(self, object_id: int) -> HistoryRecords:
        return [Product.history.filter(id=object_id), ProductImage.history.filter(product_id=object_id)]

    def export_table(self, ids: Sequence[int]) -> ExportTable:
        return exporting.products_table(ids)

    def longest_text(self, ids: Sequence[int]) -> int:
        return exporting.longest_text(ids)
