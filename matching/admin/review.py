"""Review in the admin: one product beside its candidates, the verdicts, and the next case loaded ahead."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST, require_safe

from core.admin.requests import is_htmx, require_permissions, user_of
from matching.models import Match
from matching.review import comparison, leases, queue, verdicts
from matching.review.queue import BANDS, ReviewFilter
from products.admin.filters import categories
from products.models import Product

VIEW_PERMISSION, REVIEW_PERMISSION = "matching.view_match", "matching.change_match"


class ReviewFilterForm(forms.Form):
    """Which cases to go through, as the addresses of the pages carry it."""

    score = forms.ChoiceField(
        label=gettext_lazy("Score"), required=False,
        choices=[("", gettext_lazy("all")), *((band.name, band.label) for band in BANDS)],
    )  # fmt: skip
    category = forms.CharField(label=gettext_lazy("Category"), max_length=200, required=False)
    since = forms.DateField(label=gettext_lazy("Added from"), required=False)
    until = forms.DateField(label=gettext_lazy("to"), required=False)

    def selection(self) -> ReviewFilter:
        """What was chosen; a part that cannot be read chooses nothing."""
        self.is_valid()
        chosen = dict(self.cleaned_data)
        name = chosen.pop("score", "")
        band = next((band for band in BANDS if band.name == name), None)
        return ReviewFilter(band=band, **chosen)

    def query(self, **more: int) -> str:
        """The same selection for another address, and ``more`` that it is told: ``?…``, or nothing for all."""
        query = QueryDict(mutable=True)
        query.update({name: self.data[name] for name in self.fields if self.data.get(name)} | more)
        return f"?{query.urlencode()}" if query else ""


@require_safe
def next_case(request: HttpRequest) -> HttpResponse:
    """Leave ``?after=`` and go to the case that follows, which is this reviewer's then; to the list after the last."""
    require_permissions(request, VIEW_PERMISSION)
    after = next(iter(_numbers(request.GET.getlist("after"))), None)
    chosen = _selection(request)
    if after is not None:
        leases.release_leases([after], user_of(request))
    product_id = _take(request, chosen.selection(), after)
    if product_id is not None:
        return redirect(reverse("admin:matching_match_case", args=[product_id]) + chosen.query())
    messages.success(request, _("No other case waits for a verdict."))
    return redirect("admin:matching_match_changelist")


@require_safe
def case(request: HttpRequest, product_id: int) -> HttpResponse:
    """A product beside its candidates; a reviewer holds the case from now on, unless somebody else does."""
    require_permissions(request, VIEW_PERMISSION)
    product = get_object_or_404(Product.objects.prefetch_related("images"), pk=product_id)
    chosen = _selection(request)
    context = {
        **admin.site.each_context(request),
        **_case(request, product, chosen),
        "title": _("Review"),
        "categories": sorted({*categories(), chosen.selection().category} - {""}),
        "holder": None if _hold(request, product.pk) else leases.lease_holder(product.pk),
    }
    return TemplateResponse(request, "catalogmatch/case.html", context)


@require_POST
def prefetch(request: HttpRequest) -> HttpResponse:
    """The case that follows the posted ``shown`` one, as a part of a page; 204 when there is none.

    A reviewer holds both from now on, and gives up those that were ``left``.
    """
    require_permissions(request, VIEW_PERMISSION)
    chosen = _selection(request)
    leases.release_leases(_numbers(request.POST.getlist("left")), user_of(request))
    shown = next(iter(_numbers(request.POST.getlist("shown"))), None)
    if shown is not None:
        _hold(request, shown)
    product_id = _take(request, chosen.selection(), shown)
    if product_id is None:
        return HttpResponse(status=204)
    return _part(request, product_id, chosen)


@require_POST
def renew_lease(request: HttpRequest) -> HttpResponse:
    """Go on holding the posted ``case``s; tells which are this reviewer's."""
    require_permissions(request, REVIEW_PERMISSION)
    held = [product_id for product_id in _numbers(request.POST.getlist("case")) if _hold(request, product_id)]
    return JsonResponse({"held": held})


@require_POST
def release_leases(request: HttpRequest) -> HttpResponse:
    """Give up the posted ``case``s: the page was left."""
    require_permissions(request, REVIEW_PERMISSION)
    leases.release_leases(_numbers(request.POST.getlist("case")), user_of(request))
    return HttpResponse(status=204)


@require_POST
def verdict(request: HttpRequest, match_id: int) -> HttpResponse:
    """Give the posted ``status`` to a match: the row's new buttons for htmx, otherwise back to where it came from."""
    require_permissions(request, REVIEW_PERMISSION)
    status = request.POST.get("status", "")
    try:
        verdicts.set_verdict(match_id, status, user_of(request))
    except Match.DoesNotExist as error:
        raise Http404(_("This match is not there any more.")) from error
    except ValueError as error:
        return HttpResponseBadRequest(str(error))
    if is_htmx(request):
        match = Match.objects.select_related("candidate", "reviewer").get(pk=match_id)
        response = TemplateResponse(request, "catalogmatch/verdict.html", {"match": match, "may_review": True})
        return _tell(request, response, match.product_id, [match_id], status)
    return _back(request)


@require_POST
def none_of_these(request: HttpRequest, product_id: int) -> HttpResponse:
    """Reject all waiting matches of a product; htmx is told which, otherwise it goes on to the next case."""
    require_permissions(request, REVIEW_PERMISSION)
    product = get_object_or_404(Product, pk=product_id)
    rejected = verdicts.reject_pending(product, user_of(request))
    if is_htmx(request):
        return _tell(request, HttpResponse(status=204), product.pk, rejected, Match.Status.REJECTED, none=True)
    count = len(rejected)
    messages.success(request, ngettext("%d match was rejected.", "%d matches were rejected.", count) % count)
    return redirect(_address_after(product, _selection(request)))


@require_POST
def undo(request: HttpRequest, product_id: int) -> HttpResponse:
    """Take this person's verdicts on the posted ``match``es back and answer with their case; 409 if it is another's."""
    require_permissions(request, REVIEW_PERMISSION)
    verdicts.undo_verdicts(_numbers(request.POST.getlist("match")), user_of(request))
    if not _hold(request, product_id):
        text = _("The verdict was taken back. The case itself is now with somebody else.")
        return HttpResponse(text, status=409, content_type="text/plain")
    return _part(request, product_id, _selection(request))


def case_of(product: Product) -> dict[str, Any]:
    """A product with its candidates, best first, and what differs, as the templates want it."""
    matches = product.matches.select_related("candidate", "reviewer").prefetch_related("candidate__images")
    return {
        "product": product,
        "candidates": [
            {"match": match, "differences": comparison.differences(product, match.candidate)}
            for match in matches.order_by("-similarity_score", "id")
        ],
    }


def _case(request: HttpRequest, product: Product, chosen: ReviewFilterForm) -> dict[str, Any]:
    return {
        **case_of(product),
        **_counts(request, chosen),
        "chosen": chosen,
        "query": chosen.query(),
        "next_address": _address_after(product, chosen),
        "may_review": request.user.has_perm(REVIEW_PERMISSION),
    }


def _part(request: HttpRequest, product_id: int, chosen: ReviewFilterForm) -> HttpResponse:
    product = get_object_or_404(Product.objects.prefetch_related("images"), pk=product_id)
    return TemplateResponse(request, "catalogmatch/case_part.html", _case(request, product, chosen))


def _address_after(product: Product, chosen: ReviewFilterForm) -> str:
    return reverse("admin:matching_match_next") + chosen.query(after=product.pk)


def _take(request: HttpRequest, selection: ReviewFilter, after: int | None) -> int | None:
    """The case after this one: for a reviewer alone, for others just to look at."""
    if request.user.has_perm(REVIEW_PERMISSION):
        return leases.lease_next_case(user_of(request), selection, after)
    return queue.next_case(selection, after)


def _hold(request: HttpRequest, product_id: int) -> bool:
    """Whether nobody else has the case in front of them; a reviewer holds it then."""
    if not request.user.has_perm(REVIEW_PERMISSION):
        return True
    return leases.renew_lease(product_id, user_of(request))


def _selection(request: HttpRequest) -> ReviewFilterForm:
    """The selection of the page that asks, by its own address or by the one that htmx names."""
    page = urlsplit(request.headers.get("HX-Current-URL", "")).query
    return ReviewFilterForm(request.GET or QueryDict(page))


def _numbers(texts: Iterable[str]) -> list[int]:
    return [int(text) for text in texts if text.isdecimal()]


def _counts(request: HttpRequest, chosen: ReviewFilterForm) -> dict[str, int]:
    """Matches left to judge, and this person's verdicts of today."""
    return {"left": queue.pending_count(chosen.selection()), "today": queue.verdicts_today(user_of(request))}


def _tell(
    request: HttpRequest,
    response: HttpResponse,
    product_id: int,
    match_ids: list[int],
    status: str,
    *,
    none: bool = False,
) -> HttpResponse:
    """Have htmx announce the verdict on the page, with the new counts; ``none``: on all that the case had left."""
    counts = _counts(request, _selection(request))
    told = {"product": product_id, "matches": match_ids, "status": status, "none": none, **counts}
    response["HX-Trigger"] = json.dumps({"verdict": told})
    return response


def _back(request: HttpRequest) -> HttpResponse:
    address = request.headers.get("Referer", "")
    if url_has_allowed_host_and_scheme(address, {request.get_host()}, request.is_secure()):
        return redirect(address)
    return redirect("admin:matching_match_changelist")
