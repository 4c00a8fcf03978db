"""The first steps of an installation: what is done, what comes next, and what an empty page says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from matching.models import Decision, Match
from products.models import Product, ProductImage


@dataclass(frozen=True, slots=True)
class Action:
    """A button. ``icon`` is the name of a symbol."""

    label: str
    url: str
    icon: str


@dataclass(frozen=True, slots=True)
class Step:
    """One of the first steps. Only the first step that is not done has actions."""

    title: str
    text: str
    is_done: bool
    actions: list[Action]


def first_steps(request: HttpRequest, figures: Mapping[str, Any]) -> list[Step]:
    """Return the steps from an empty installation to the first decision, or none if all are done.

    ``figures``: the numbers of the home page.
    """
    if Decision.objects.exists():
        return []
    has_catalogue, has_new = bool(figures["catalogue_count"]), bool(figures["new_count"])
    has_answer = bool(figures["waiting_count"]) or Match.objects.exists()
    waiting = figures["queue"]["pending"] + figures["queue"]["claimed"] if has_catalogue else 0
    steps = [
        Step(
            _("Bring in your catalogue"),
            _("A table with images in a ZIP or as web addresses. New products are compared with it."),
            has_catalogue,
            _allowed(request, "products.add_product", _import()),
        ),
        Step(
            _("Let the worker look at the images"),
            _waiting_text(waiting) if has_catalogue else _("This starts by itself after the import."),
            has_catalogue and not waiting,
            _allowed(request, "gpu.view_embeddingworker", _device()) if waiting else [],
        ),
        Step(
            _("Get a first answer"),
            _("No candidate was found for the new products. Ask about one image, or lower the threshold.")
            if has_new and has_catalogue and not waiting and not has_answer
            else _("Upload a new product. Its most similar products of the catalogue appear as a case."),
            has_answer,
            [*_allowed(request, "products.add_product", _upload()), *_allowed(request, "matching.view_match", _ask())],
        ),
        Step(
            _("Make the first decision"),
            _("Is it one of these, a variant, or new? One key decides the case, and U undoes it."),
            False,
            _allowed(request, "matching.change_match", _review()),
        ),
    ]
    open_step = next(number for number, step in enumerate(steps) if not step.is_done)
    return [
        step if number == open_step else Step(step.title, step.text, step.is_done, [])
        for number, step in enumerate(steps)
    ]


def why_no_products(request: HttpRequest) -> dict[str, Any]:
    """Return why there is no product and what to do."""
    return {
        "title": _("There is no product yet"),
        "text": _("Import your catalogue as a table, or upload a single product with its images."),
        "actions": _allowed(request, "products.add_product", _import(), _upload()),
    }


def why_no_matches(request: HttpRequest) -> dict[str, Any]:
    """Return why there is no match and what to do: ``title``, ``text`` and ``actions``."""
    if not Product.objects.filter(is_historical=True).exists():
        return {
            "title": _("There is no match, because the catalogue is empty"),
            "text": _("Matches compare new products with the catalogue. Import the catalogue first."),
            "actions": _allowed(request, "products.add_product", _import()),
        }
    if not Product.objects.filter(is_historical=False).exists():
        return {
            "title": _("There is no match, because no new product was added"),
            "text": _("Upload a new product, or import a table of them. Their matches are found by themselves."),
            "actions": _allowed(request, "products.add_product", _upload(), _import()),
        }
    waiting = ProductImage.objects.exclude(state__in=["ready", "failed"]).count()
    return {
        "title": _("There is no match yet"),
        "text": _waiting_text(waiting)
        if waiting
        else _("No product of the catalogue is similar enough to a new one. A lower threshold finds more."),
        "actions": _allowed(request, "matching.view_match", _ask()),
    }


def why_nothing_is_found(request: HttpRequest) -> dict[str, Any] | None:
    """Return why no search finds anything and what to do, or None if the catalogue has products."""
    if Product.objects.filter(is_historical=True).exists():
        return None
    return {
        "title": _("The catalogue is empty"),
        "text": _("A search compares with the products of the catalogue. Import them first."),
        "actions": _allowed(request, "products.add_product", _import()),
    }


def _waiting_text(count: int) -> str:
    text = ngettext("%d image waits for the worker.", "%d images wait for the worker.", count) % count
    return text if count else _("All images have their features.")


def _allowed(request: HttpRequest, permission: str, *actions: Action) -> list[Action]:
    return list(actions) if request.user.has_perm(permission) else []


def _import() -> Action:
    return Action(_("Import a table"), reverse("admin:products_import"), "upload_file")


def _upload() -> Action:
    return Action(_("Upload a product"), reverse("admin:products_product_add"), "upload")


def _ask() -> Action:
    return Action(_("Ask about an image"), reverse("admin:ask"), "image_search")


def _review() -> Action:
    return Action(_("Start reviewing"), reverse("admin:matching_match_next"), "compare")


def _device() -> Action:
    return Action(_("Look at the worker"), reverse("admin:device"), "memory")
