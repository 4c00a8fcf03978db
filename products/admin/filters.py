"""Filters of the product list: by category and by the state of the images."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import DropdownFilter

from products.models import Product, ProductImage

MAX_CHOICES = 500  # in a longer list a user does not find an entry


def categories() -> list[str]:
    """Return the categories in use, sorted by name: the ``MAX_CHOICES`` with the most products."""
    used = Product.objects.exclude(category="").order_by().values_list("category")
    return sorted(name for name, _count in used.annotate(n=Count("pk")).order_by("-n", "category")[:MAX_CHOICES])


class CategoryFilter(DropdownFilter):
    title = _("category")
    parameter_name = "category"
    field = "category"

    def lookups(self, request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        chosen = {name for name in request.GET.getlist(self.parameter_name) if name}
        return [(name, name) for name in sorted(chosen.union(categories()))]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.field: self.value()}) if self.value() else queryset


class ImageStateFilter(DropdownFilter):
    """Products that have an image in this state, or no image at all."""

    title = _("image state")
    parameter_name = "picture"  # bookmarked addresses have it

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, Any]]:
        return [*ProductImage.State.choices, ("none", _("no image"))]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Product]) -> QuerySet[Product]:
        images = ProductImage.objects.filter(product=OuterRef("pk"))
        match self.value():
            case None | "":
                return queryset
            case "none":
                return queryset.filter(~Exists(images))
            case ProductImage.State.READY:
                # From the products to their images: nearly all have a ready one, so a page is soon full.
                return queryset.filter(Exists(images.filter(state=ProductImage.State.READY)))
            case state:
                # From the images to the products: few images are failed or pending, but there are many products.
                return queryset.filter(pk__in=ProductImage.objects.filter(state=state).values("product"))
