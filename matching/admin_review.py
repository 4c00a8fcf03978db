"""Review in the admin: one product beside its candidates, and the verdicts."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from matching import cases, service
from matching.models import Match
from products.models import Product


def case_of(product: Product) -> dict[str, Any]:
    """A product with its candidates, best first, and what differs, as the templates want it."""
    matches = product.matches.select_related("candidate", "reviewer").prefetch_related("candidate__images")
    return {
        "product": product,
        "candidates": [
            {"match": match, "differences": cases.differences(product, match.candidate)}
            for match in matches.order_by("-similarity_score", "id")
        ],
    }


@require_safe
def next_case(request: HttpRequest) -> HttpResponse:
    """Go to the case after ``?after=``, which is then this reviewer's own; to the list when there is none."""
    if not request.user.has_perm("matching.view_match"):
        raise PermissionDenied
    text = request.GET.get("after", "")
    after = int(text) if text.isdecimal() else None
    if request.user.has_perm("matching.change_match"):
        product_id = cases.take_case(request.user, after)  # type: ignore[arg-type]
    else:
        product_id = cases.next_case(after)
    if product_id is not None:
        return redirect("admin:matching_match_case", product_id)
    messages.success(request, _("No other case waits for a verdict."))
    address = reverse("admin:matching_match_changelist")
    if request.headers.get("HX-Request"):
        return HttpResponse(headers={"HX-Redirect": address})
    return redirect(address)


@require_safe
def case(request: HttpRequest, product_id: int) -> HttpResponse:
    """A product beside its candidates."""
    if not request.user.has_perm("matching.view_match"):
        raise PermissionDenied
    product = get_object_or_404(Product.objects.prefetch_related("images"), pk=product_id)
    context = {
        **admin.site.each_context(request),
        **case_of(product),
        "title": _("Review"),
        "may_review": request.user.has_perm("matching.change_match"),
        **_counts(request),
    }
    return TemplateResponse(request, "catalogmatch/case.html", context)


@require_POST
def verdict(request: HttpRequest, match_id: int) -> HttpResponse:
    """Give the posted ``status`` to a match: the row's new buttons for htmx, otherwise back to where it came from."""
    _may_review(request)
    try:
        service.review(match_id, request.POST.get("status", ""), request.user)  # type: ignore[arg-type]
    except Match.DoesNotExist as error:
        raise Http404(_("This match is not there any more.")) from error
    except ValueError as error:
        return HttpResponseBadRequest(str(error))
    if request.headers.get("HX-Request"):
        match = Match.objects.select_related("reviewer").get(pk=match_id)
        response = TemplateResponse(request, "catalogmatch/verdict.html", {"match": match, "may_review": True})
        response["HX-Trigger"] = json.dumps({"verdict": _counts(request)})
        return response
    return _back(request)


@require_POST
def none_of_these(request: HttpRequest, product_id: int) -> HttpResponse:
    """Reject all waiting matches of a product and go on to the next case."""
    _may_review(request)
    product = get_object_or_404(Product, pk=product_id)
    count = cases.reject_pending(product, request.user)  # type: ignore[arg-type]
    if not request.headers.get("HX-Request"):
        messages.success(request, ngettext("%d match was rejected.", "%d matches were rejected.", count) % count)
    return redirect(f"{reverse('admin:matching_match_next')}?after={product.pk}")


def _may_review(request: HttpRequest) -> None:
    if not request.user.has_perm("matching.change_match"):
        raise PermissionDenied


def _counts(request: HttpRequest) -> dict[str, int]:
    """Matches left to judge, and this person's verdicts of today."""
    return {"left": cases.waiting_count(), "today": cases.verdicts_today(request.user)}  # type: ignore[arg-type]


def _back(request: HttpRequest) -> HttpResponse:
    address = request.headers.get("Referer", "")
    if url_has_allowed_host_and_scheme(address, {request.get_host()}, request.is_secure()):
        return redirect(address)
    return redirect("admin:matching_match_changelist")
