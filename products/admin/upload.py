"""Upload forms of the admin: a new product with its images, and more images of a product."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import lazy
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from core.disk import NoRoomError
from gpu.imaging.errors import ImageProcessingError
from gpu.imaging.formats import ACCEPTED
from gpu.imaging.limits import JPEG, MAX_BYTES
from products.admin.filters import categories
from products.images import intake
from products.images.cleaning import Upload, read_bounded
from products.images.intake import IntakeResult, RejectedUploadsError, SkuExistsError
from products.models import Product
from products.validation import MAX_DESCRIPTION_LENGTH


class MultipleFileInput(forms.FileInput):
    allow_multiple_selected = True


class ImagesField(forms.FileField):
    """One or more uploads. Intake checks their contents."""

    widget = MultipleFileInput(attrs={"accept": "image/*,.heic,.heif,.avif"})
    default_error_messages = {"required": gettext_lazy("Choose at least one image.")}

    def __init__(self, *, multiple: bool = True, **kwargs: Any) -> None:
        super().__init__(help_text=lazy(_accepted_formats, str)(), **kwargs)
        self.multiple = multiple
        if not multiple:
            del self.widget.attrs["multiple"]

    def clean(self, data: Any, initial: Any = None) -> list[Upload]:
        files = data or []
        if self.required and not files:
            raise ValidationError(self.error_messages["required"], code="required")
        try:
            return [Upload(read_bounded(file), file.name or "") for file in files]
        except ImageProcessingError as error:
            raise ValidationError(error.message, code=error.code) from error


def _accepted_formats() -> str:
    return _("%(formats)s, up to %(size)d MiB per image, JPEG up to %(jpeg_size)d MiB.") % {
        "formats": ", ".join(ACCEPTED),
        "size": MAX_BYTES // 2**20,
        "jpeg_size": JPEG.max_bytes // 2**20,
    }


class AddImagesForm(forms.Form):
    images = ImagesField(label=gettext_lazy("Images"))

    def add_image_errors(self, error: RejectedUploadsError) -> None:
        """Show beside the field why each rejected upload cannot be used."""
        for name, reason in error.rejected:
            self.add_error("images", ValidationError(f"{name}: {reason.message}", code=reason.code))


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
    """Show the form of a new product, or add the posted product and go to its page."""
    status = 422
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        fields = dict(form.cleaned_data)
        try:
            result = intake.add_product(fields.pop("images"), **fields)
        except RejectedUploadsError as error:
            form.add_image_errors(error)
        except SkuExistsError as error:
            form.add_error("sku", ValidationError(str(error), code=error.code))
        except ValidationError as error:
            form.add_error(None, error)
        except NoRoomError as error:
            form.add_error(None, ValidationError(str(error), code=error.code))
            status = 507
        else:
            _show_result(
                request, result, _("The product was added.") if result.created else _("This product already exists.")
            )
            return redirect("admin:products_product_change", result.product.pk)
    context = {
        **admin.site.each_context(request),
        "title": _("New product"),
        "form": form,
        "categories": categories(),
    }
    return TemplateResponse(request, "catalogmatch/upload.html", context, status=status if form.errors else 200)


def add_images(request: HttpRequest, product: Product) -> HttpResponse:
    """Add the posted images to the product and go back to its page."""
    form = AddImagesForm(request.POST, request.FILES)
    if form.is_valid():
        try:
            result = intake.add_images(product, form.cleaned_data["images"])
        except RejectedUploadsError as error:
            form.add_image_errors(error)
        except NoRoomError as error:
            form.add_error("images", ValidationError(str(error), code=error.code))
        except Product.DoesNotExist as error:
            raise Http404(_("This product no longer exists.")) from error
        else:
            count = len(result.images)
            _show_result(
                request,
                result,
                ngettext("The image was added.", "The images were added.", count)
                if result.created
                else ngettext("The product already has this image.", "The product already has these images.", count),
            )
            return redirect("admin:products_product_change", product.pk)
    for message in form.errors.get("images", []):
        messages.error(request, str(message))
    return redirect("admin:products_product_change", product.pk)


def _show_result(request: HttpRequest, result: IntakeResult, message: str) -> None:
    if not result.product.is_historical and request.user.has_perm("matching.view_match"):
        case = reverse("admin:matching_match_case", args=[result.product.pk])
        message = format_html('{} <a href="{}">{}</a>', message, case, _("Review its case"))
    messages.success(request, message)
    if result.duplicate_of is not None:
        url = reverse("admin:products_product_change", args=[result.duplicate_of])
        text = _("Another product has exactly the same image:")
        other = Product.objects.filter(pk=result.duplicate_of).first()
        messages.warning(request, format_html('{} <a href="{}">{}</a>', text, url, other or result.duplicate_of))
