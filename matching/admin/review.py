"""The review page: a new product beside its candidates, the verdicts, and the next case loaded in advance."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseRedirect,
    JsonResponse,
    QueryDict,
)
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST, require_safe

from core.admin.requests import is_htmx, require_permissions, user_of
from core.database.ids import parse_ids
from matching.models import Match
from matching.review import comparison, leases, queue, verdicts
from matching.review.queue import BANDS, ReviewFilter
from products.admin.filters import categories
from products.models import Product

VIEW_PERMISSION, REVIEW_PERMISSION = "matching.view_match", "matching.change_match"
# The first and last days that also have a day before and after them, which other time zones need.
DAYS = (MinValueValidator(date(1, 1, 2)), MaxValueValidator(date(9999, 12, 30)))

MAX_RENEWED = 20  # leases in one request; the page has two


class ReviewFilterForm(forms.Form):
    """Which cases to review, from the query string of the page."""

    score = forms.ChoiceField(
        label=gettext_lazy("Score"), required=False,
        choices=[("", gettext_lazy("all")), *((band.name, band.label) for band in BANDS)],
    )  # fmt: skip
    category = forms.CharField(label=gettext_lazy("Category"), max_length=200, required=False)
    since = forms.DateField(label=gettext_lazy("Added from"), required=False, validators=DAYS)
    until = forms.DateField(label=gettext_lazy("to"), required=False, validators=DAYS)

    def review_filter(self) -> ReviewFilter:
        """Return the filter. An invalid field filters nothing."""
        self.is_valid()
        values = dict(self.cleaned_data)
        name = values.pop("score", "")
        band = next((band for band in BANDS if band.name == name), None)
        return ReviewFilter(band=band, **values)

    def query_string(self, **more: int) -> str:
        """Return the filter and ``more`` as ``?name=value&…``, or "" if both are empty."""
        query = QueryDict(mutable=True)
        query.update({name: self.data[name] for name in self.fields if self.data.get(name)} | more)
        return f"?{query.urlencode()}" if query else ""


@require_safe
def next_case(request: HttpRequest) -> HttpResponse:
    """Release the case in ``?after=`` and redirect to the next one, or to the list of matches after the last."""
    require_permissions(request, VIEW_PERMISSION)
    after = next(iter(parse_ids(request.GET.getlist("after"))), None)
    form = _filter_form(request)
    if after is not None:
        leases.release_leases([after], user_of(request))
    product_id = _lease_next(request, form.review_filter(), after)
    if product_id is not None:
        return redirect(reverse("admin:matching_match_case", args=[product_id]) + form.query_string())
    messages.success(request, _("No other case waits for a verdict."))
    return redirect("admin:matching_match_changelist")


@require_safe
def case(request: HttpRequest, product_id: int) -> HttpResponse:
    """Show a product beside its candidates. A reviewer gets a lease on the case unless another reviewer has one."""
    require_permissions(request, VIEW_PERMISSION)
    product = get_object_or_404(Product.objects.prefetch_related("images"), pk=product_id)
    form = _filter_form(request)
    context = {
        **admin.site.each_context(request),
        **_case_context(request, product, form),
        "title": _("Review"),
        "categories": sorted({*categories(), form.review_filter().category} - {""}),
        "lease_holder": None if _renew_lease(request, product.pk) else leases.lease_holder(product.pk),
    }
    return TemplateResponse(request, "catalogmatch/review.html", context)


@require_POST
def prefetch(request: HttpRequest) -> HttpResponse:
    """Return the case after the posted ``shown`` one as a part of a page, or 204 if there is none.

    A reviewer gets leases on both cases and loses those on the posted ``left`` ones.
    """
    require_permissions(request, VIEW_PERMISSION)
    form = _filter_form(request)
    leases.release_leases(parse_ids(request.POST.getlist("left")), user_of(request))
    shown = next(iter(_cases(request.POST.getlist("shown"))), None)
    if shown is not None:
        _renew_lease(request, shown)
    product_id = _lease_next(request, form.review_filter(), shown)
    if product_id is None:
        return HttpResponse(status=204)
    return _case_response(request, product_id, form)


@require_POST
def renew_lease(request: HttpRequest) -> HttpResponse:
    """Renew the leases on the posted ``case``s. Return those that this reviewer has."""
    require_permissions(request, REVIEW_PERMISSION)
    cases = _cases(request.POST.getlist("case")[:MAX_RENEWED])
    held = [product_id for product_id in cases if _renew_lease(request, product_id)]
    return JsonResponse({"held": held})


@require_POST
def release_leases(request: HttpRequest) -> HttpResponse:
    """Release the posted ``case``s, because the user left the page."""
    require_permissions(request, REVIEW_PERMISSION)
    leases.release_leases(parse_ids(request.POST.getlist("case")), user_of(request))
    return HttpResponse(status=204)


@require_POST
def verdict(request: HttpRequest, match_id: int) -> HttpResponse:
    """Save the posted ``status`` as the verdict. Return the new buttons to htmx, or redirect to the previous page."""
    require_permissions(request, REVIEW_PERMISSION)
    status = request.POST.get("status", "")
    try:
        verdicts.set_verdict(match_id, status, user_of(request))
    except Match.DoesNotExist as error:
        raise Http404(_("This match no longer exists.")) from error
    except ValueError as error:
        return HttpResponseBadRequest(str(error))
    if is_htmx(request):
        match = Match.objects.select_related("candidate", "reviewer").get(pk=match_id)
        response = TemplateResponse(request, "catalogmatch/verdict.html", {"match": match, "may_review": True})
        return _announce(request, response, match.product_id, [match_id], status)
    return _redirect_back(request)


@require_POST
def none_of_these(request: HttpRequest, product_id: int) -> HttpResponse:
    """Reject all pending matches of a product. Return them to htmx, or redirect to the next case."""
    require_permissions(request, REVIEW_PERMISSION)
    product = get_object_or_404(Product, pk=product_id)
    rejected = verdicts.reject_pending(product, user_of(request))
    if is_htmx(request):
        response = HttpResponse(status=204)
        return _announce(request, response, product.pk, rejected, Match.Status.REJECTED, none_of_these=True)
    count = len(rejected)
    messages.success(request, ngettext("%d match was rejected.", "%d matches were rejected.", count) % count)
    return redirect(_next_url(product, _filter_form(request)))


@require_POST
def undo(request: HttpRequest, product_id: int) -> HttpResponse:
    """Undo the user's verdicts on the posted ``match``es and return their case.

    The status is 409 if another reviewer has a lease on the case. The verdicts are undone all the same.
    """
    require_permissions(request, REVIEW_PERMISSION)
    get_object_or_404(Product, pk=product_id)
    verdicts.undo_verdicts(parse_ids(request.POST.getlist("match")), user_of(request))
    if not _renew_lease(request, product_id):
        text = _("The verdict was undone. Another reviewer now has this case.")
        return HttpResponse(text, status=409, content_type="text/plain")
    return _case_response(request, product_id, _filter_form(request))


def _case_context(request: HttpRequest, product: Product, form: ReviewFilterForm) -> dict[str, Any]:
    matches = product.matches.select_related("candidate", "reviewer").prefetch_related("candidate__images")
    return {
        "product": product,
        "candidates": [
            {"match": match, "differences": comparison.differences(product, match.candidate)}
            for match in matches.order_by("-similarity_score", "id")
        ],
        **_counts(request, form),
        "filter_form": form,
        "query_string": form.query_string(),
        "next_url": _next_url(product, form),
        "may_review": request.user.has_perm(REVIEW_PERMISSION),
    }


def _case_response(request: HttpRequest, product_id: int, form: ReviewFilterForm) -> HttpResponse:
    product = get_object_or_404(Product.objects.prefetch_related("images"), pk=product_id)
    return TemplateResponse(request, "catalogmatch/review_case.html", _case_context(request, product, form))


def _next_url(product: Product, form: ReviewFilterForm) -> str:
    return reverse("admin:matching_match_next") + form.query_string(after=product.pk)


def _lease_next(request: HttpRequest, review_filter: ReviewFilter, after: int | None) -> int | None:
    """Return the case after this one. A reviewer gets a lease on it; other users only look at it."""
    if request.user.has_perm(REVIEW_PERMISSION):
        return leases.lease_next_case(user_of(request), review_filter, after)
    return queue.next_case(review_filter, after)


def _renew_lease(request: HttpRequest, product_id: int) -> bool:
    """Return whether the user may work on the case. A reviewer then has a lease on it."""
    if not request.user.has_perm(REVIEW_PERMISSION):
        return True
    return leases.renew_lease(product_id, user_of(request))


def _filter_form(request: HttpRequest) -> ReviewFilterForm:
    """Return the filter of the page: from its own query string, or from the one that htmx sends."""
    _address, _mark, page_query = request.headers.get("HX-Current-URL", "").partition("?")
    return ReviewFilterForm(request.GET or QueryDict(page_query.partition("#")[0]))


def _cases(texts: Iterable[str]) -> list[int]:
    """Return the ids of existing products among these texts, in their order."""
    ids = parse_ids(texts)
    existing = set(Product.objects.filter(pk__in=ids).values_list("pk", flat=True))
    return [product_id for product_id in ids if product_id in existing]


def _counts(request: HttpRequest, form: ReviewFilterForm) -> dict[str, int]:
    """Return the number of pending matches and of the user's verdicts today."""
    return {"left": queue.pending_count(form.review_filter()), "today": queue.verdicts_today(user_of(request))}


def _announce(
    request: HttpRequest,
    response: HttpResponse,
    product_id: int,
    match_ids: list[int],
    status: str,
    *,
    none_of_these: bool = False,
) -> HttpResponse:
    """Let htmx send the page a ``verdict`` event with the verdict and the new counts.

    ``none_of_these``: the verdict is on all pending matches of the case.
    """
    detail = {"product": product_id, "matches": match_ids, "status": status, "none": none_of_these}
    response["HX-Trigger"] = json.dumps({"verdict": detail | _counts(request, _filter_form(request))})
    return response


def _redirect_back(request: HttpRequest) -> HttpResponse:
    url = request.headers.get("Referer", "")
    if url_has_allowed_host_and_scheme(url, {request.get_host()}, request.is_secure()):
        return HttpResponseRedirect(url)  # ``redirect`` would take it for the name of a view first
    return redirect("admin:matching_match_changelist")
