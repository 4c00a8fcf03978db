"""How the product list is narrowed down: by category and by what has become of the pictures."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import DropdownFilter

from products.models import Product, ProductImage

MAX_CHOICES = 500  # choices that a list of them can hold for a person to find one


def categories() -> list[str]:
    """The categories in use, in alphabetical order; of more than ``MOST`` those with the most products."""
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
    """Products that have a picture in this state, or no picture at all."""

    title = _("picture state")
    parameter_name = "picture"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, Any]]:
        return [*ProductImage.State.choices, ("none", _("no picture"))]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Product]) -> QuerySet[Product]:
        pictures = ProductImage.objects.filter(product=OuterRef("pk"))
        match self.value():
            case None | "":
                return queryset
            case "none":
                return queryset.filter(~Exists(pictures))
            case ProductImage.State.READY:
                # From the products to their pictures: nearly all have one that is ready, so a page is soon full.
                return queryset.filter(Exists(pictures.filter(state=ProductImage.State.READY)))
            case state:
                # From the pictures to the products: few pictures are failed or pending, many products exist.
                return queryset.filter(pk__in=ProductImage.objects.filter(state=state).values("product"))
