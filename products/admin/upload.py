"""The admin's doors for pictures: a new product with its pictures, and further views of a product, through intake."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import lazy
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from gpu.imaging.errors import MAX_BYTES, ImageProcessingError
from gpu.imaging.formats import ACCEPTED
from products.admin.filters import categories
from products.images import intake
from products.images.cleaning import Upload, clean_image, read_bounded
from products.images.intake import IntakeResult, SkuExistsError
from products.models import Product
from products.validation import MAX_DESCRIPTION_LENGTH


class ImagesInput(forms.FileInput):
    allow_multiple_selected = True


class ImagesField(forms.FileField):
    """One or more files as intake takes them. What is in them is checked at intake."""

    widget = ImagesInput(attrs={"accept": "image/*,.heic,.heif,.avif"})
    default_error_messages = {"required": gettext_lazy("Choose at least one picture.")}

    def __init__(self, *, many: bool = True, **kwargs: Any) -> None:
        super().__init__(help_text=lazy(_accepted, str)(), **kwargs)
        self.many = many
        if not many:
            del self.widget.attrs["multiple"]

    def clean(self, data: Any, initial: Any = None) -> list[Upload]:
        files = data or []
        if self.required and not files:
            raise ValidationError(self.error_messages["required"], code="required")
        try:
            return [Upload(read_bounded(file), file.name or "") for file in files]
        except ImageProcessingError as error:
            raise ValidationError(error.message, code=error.code) from error


def _accepted() -> str:
    return _("%(kinds)s, up to %(size)d MiB a picture.") % {
        "kinds": ", ".join(ACCEPTED),
        "size": MAX_BYTES // 2**20,
    }


class AddImagesForm(forms.Form):
    pictures = ImagesField(label=gettext_lazy("Pictures"))

    def add_picture_errors(self) -> None:
        """Say of each picture that intake refuses why, next to the field."""
        for upload in self.cleaned_data.get("pictures", []):
            try:
                clean_image(upload)
            except ImageProcessingError as error:
                self.add_error("pictures", ValidationError(f"{upload.name}: {error.message}", code=error.code))


class UploadForm(AddImagesForm):
    sku = forms.CharField(
        label=gettext_lazy("SKU"), max_length=200, required=False, widget=UnfoldAdminTextInputWidget()
    )
    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=500, required=False, widget=UnfoldAdminTextInputWidget()
    )
    category = forms.CharField(
        label=gettext_lazy("Category"),
        max_length=200,
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"list": "categories", "autocomplete": "off"}),
    )
    description = forms.CharField(
        label=gettext_lazy("Description"),
        max_length=MAX_DESCRIPTION_LENGTH,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
    )
    is_historical = forms.BooleanField(
        label=gettext_lazy("Part of the catalogue"),
        help_text=gettext_lazy("Catalogue products are what new products are compared with."),
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
    )


def upload(request: HttpRequest) -> HttpResponse:
    """The form of a new product. A product that was added is shown, with its matches where they are there already."""
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        fields = dict(form.cleaned_data)
        try:
            added = intake.add_product(fields.pop("pictures"), **fields)
        except ImageProcessingError:
            form.add_picture_errors()
        except SkuExistsError as error:
            form.add_error("sku", ValidationError(str(error), code=error.code))
        except ValidationError as error:
            form.add_error(None, error)
        else:
            _tell(request, added, _("The product was added.") if added.created else _("This product is here already."))
            return redirect("admin:products_product_change", added.product.pk)
    context = {
        **admin.site.each_context(request),
        "title": _("New product"),
        "form": form,
        "categories": categories(),
    }
    status = 422 if form.errors else 200
    return TemplateResponse(request, "catalogmatch/upload.html", context, status=status)


def add_images(request: HttpRequest, product: Product) -> HttpResponse:
    """Add the posted pictures to the product and go back to its page."""
    form = AddImagesForm(request.POST, request.FILES)
    if form.is_valid():
        try:
            added = intake.add_images(product, form.cleaned_data["pictures"])
        except ImageProcessingError:
            form.add_picture_errors()
        else:
            count = len(added.images)
            _tell(
                request,
                added,
                ngettext("The view was added.", "The views were added.", count)
                if added.created
                else ngettext(
                    "The product has this picture already.", "The product has these pictures already.", count
                ),
            )
            return redirect("admin:products_product_change", product.pk)
    for error in form.errors.get("pictures", []):
        messages.error(request, str(error))
    return redirect("admin:products_product_change", product.pk)


def _tell(request: HttpRequest, added: IntakeResult, sentence: str) -> None:
    messages.success(request, sentence)
    if added.duplicate_of is not None:
        address = reverse("admin:products_product_change", args=[added.duplicate_of])
        text = _("Another product has the very same picture:")
        other = Product.objects.filter(pk=added.duplicate_of).first()
        messages.warning(request, format_html('{} <a href="{}">{}</a>', text, address, other or added.duplicate_of))
