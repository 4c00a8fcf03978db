"""The review page: a new product beside its candidates, the decision, and the next case loaded in advance."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
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
from gpu.imaging.errors import ImageProcessingError
from matching.answers.wording import answer_in_words, percent, strongest
from matching.best_views import best_views
from matching.models import Decision, Match
from matching.review import cases, comparison, decisions, leases, queue, verdicts
from matching.review.cases import Case
from matching.review.decisions import Choice, ConflictError
from matching.review.queue import BANDS, ReviewFilter
from products.admin.filters import categories
from products.images import renditions
from products.models import Product, ProductImage

VIEW_PERMISSION, REVIEW_PERMISSION = "matching.view_match", "matching.change_match"
# The first and last days that also have a day before and after them, which other time zones need.
DAYS = (MinValueValidator(date(1, 1, 2)), MaxValueValidator(date(9999, 12, 30)))

SHOWN_SIDE = 720  # pixels of the longer side of a large image
MAX_KEYS = 9  # candidates that have a number key
MAX_RENEWED = 20  # leases in one request; the page has two
# What a session keeps: the order of review, and the cases that the order "most useful first" has shown.
ORDER_KEY, SEEN_KEY = "review_order", "review_seen"
MAX_SEEN = 500
USEFUL = "useful"


class ReviewFilterForm(forms.Form):
    """Which cases to review, from the query string of the page."""

    score = forms.ChoiceField(
        label=gettext_lazy("Score"), required=False,
        choices=[("", gettext_lazy("all")), *((band.name, band.label) for band in BANDS)],
    )  # fmt: skip
    category = forms.CharField(label=gettext_lazy("Category"), max_length=200, required=False)
    since = forms.DateField(label=gettext_lazy("Added from"), required=False, validators=DAYS)
    until = forms.DateField(label=gettext_lazy("to"), required=False, validators=DAYS)
    order = forms.ChoiceField(
        label=gettext_lazy("Order"), required=False,
        choices=[("", gettext_lazy("newest first")), (USEFUL, gettext_lazy("most useful first"))],
    )  # fmt: skip

    def review_filter(self) -> ReviewFilter:
        """Return the filter. An invalid field filters nothing."""
        self.is_valid()
        values = dict(self.cleaned_data)
        name = values.pop("score", "")
        values.pop("order", "")
        band = next((band for band in BANDS if band.name == name), None)
        return ReviewFilter(band=band, **values)

    def query_string(self, **more: int) -> str:
        """Return the filter and ``more`` as ``?name=value&…``, or "" if both are empty. The session has the order."""
        query = QueryDict(mutable=True)
        names = self.fields.keys() - {"order"}
        query.update({name: self.data[name] for name in self.fields if name in names and self.data.get(name)} | more)
        return f"?{query.urlencode()}" if query else ""


@require_safe
def next_case(request: HttpRequest) -> HttpResponse:
    """Release the case in ``?after=`` and redirect to the next one, or to the list of matches after the last."""
    require_permissions(request, VIEW_PERMISSION)
    after = next(iter(parse_ids(request.GET.getlist("after"))), None)
    form = _filter_form(request)
    if after is not None:
        leases.release_leases([after], user_of(request))
    product_id = _lease_next(request, form, after)
    if product_id is not None:
        return redirect(reverse("admin:matching_match_case", args=[product_id]) + form.query_string())
    messages.success(request, _("No other case waits for a decision."))
    return redirect("admin:matching_match_changelist")


@require_safe
def case(request: HttpRequest, product_id: int) -> HttpResponse:
    """Show a product beside its candidates. A reviewer gets a lease on the case unless another reviewer has one."""
    require_permissions(request, VIEW_PERMISSION)
    products = Product.objects.select_related("decision__reviewer").prefetch_related("images")
    product = get_object_or_404(products, pk=product_id)
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
    shown = next(iter(_existing(request.POST.getlist("shown"))), None)
    if shown is not None:
        _renew_lease(request, shown)
    product_id = _lease_next(request, form, shown)
    if product_id is None:
        return HttpResponse(status=204)
    return _case_response(request, product_id, form)


@require_POST
def renew_lease(request: HttpRequest) -> HttpResponse:
    """Renew the leases on the posted ``case``s. Return those that this reviewer has."""
    require_permissions(request, REVIEW_PERMISSION)
    cases = _existing(request.POST.getlist("case")[:MAX_RENEWED])
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
    """Save the posted ``status`` as the verdict. Return the new buttons to htmx, or redirect to the previous page.

    ``?version=`` is the version of the match that the user saw. The status is 409 if it has changed since.
    """
    require_permissions(request, REVIEW_PERMISSION)
    version, conflict = request.GET.get("version"), ""
    try:
        verdicts.set_verdict(
            match_id, request.POST.get("status", ""), user_of(request), version=version, override=False
        )
    except Match.DoesNotExist as error:
        raise Http404(_("This match no longer exists.")) from error
    except ValueError as error:
        return HttpResponseBadRequest(str(error))
    except ConflictError as error:
        conflict = str(error)
    if is_htmx(request):
        match = Match.objects.select_related("candidate", "reviewer").get(pk=match_id)
        context = {"match": match, "may_review": True, "conflict": conflict}
        return TemplateResponse(request, "catalogmatch/verdict.html", context)
    if conflict:
        messages.error(request, conflict)
    return _redirect_back(request)


@require_POST
def decide(request: HttpRequest, product_id: int) -> HttpResponse:
    """Save the posted ``decision`` on a case. Return a message to the page's script, or redirect to the next case.

    If the case is not what the user saw, the status is 409 and the response is the case as it is now.
    """
    require_permissions(request, REVIEW_PERMISSION)
    form, post = _filter_form(request), request.POST
    texts = (post.get(name, "").strip() for name in ("differs", "reason", "note"))
    kind = post.get("decision", "")
    chosen = parse_ids(post.getlist("candidate")) if kind in (Decision.Kind.SAME, Decision.Kind.VARIANT) else []
    try:
        decided = decisions.decide(
            product_id, Choice(kind, chosen, *texts), user_of(request), version=post.get("version") or None
        )
    except Product.DoesNotExist as error:
        raise Http404(_("This product no longer exists.")) from error
    except ValidationError as error:
        return HttpResponseBadRequest(" ".join(error.messages), content_type="text/plain")
    except ConflictError as error:
        return _case_response(request, product_id, form, conflict=str(error), status=409)
    assert decided.decision is not None  # noqa: S101  # nosec B101 # for the type checker
    text = _in_words(decided.product, decided.decision, settled=len(decided.decision.settled) - len(chosen))
    if request.headers.get("Accept") == "application/json":
        return JsonResponse({"text": text, "version": decided.version} | _counts(request, form))
    messages.success(request, text)
    return redirect(_next_url(decided.product, form))


@require_POST
def undo(request: HttpRequest, product_id: int) -> HttpResponse:
    """Undo the decision on a case and return the case, if it is still the user's own or the posted ``version``.

    The status is 409 if another reviewer has decided since, or has a lease on the case. With a lease, the decision is
    undone all the same.
    """
    require_permissions(request, REVIEW_PERMISSION)
    get_object_or_404(Product, pk=product_id)
    try:
        decisions.undo(product_id, user_of(request), version=request.POST.get("version") or None)
    except Decision.DoesNotExist:
        pass  # undone already
    except ConflictError as error:
        return HttpResponse(str(error), status=409, content_type="text/plain")
    if not _renew_lease(request, product_id):
        text = _("The decision was undone. Another reviewer now has this case.")
        return HttpResponse(text, status=409, content_type="text/plain")
    if "text/html," in request.headers.get("Accept", ""):  # a browser without the page's script
        return redirect("admin:matching_match_case", product_id)
    return _case_response(request, product_id, _filter_form(request))


@require_safe
def image(request: HttpRequest, image_id: int) -> HttpResponse:
    """Return an image at the size in which the review page shows it."""
    require_permissions(request, "products.view_product")
    stored = get_object_or_404(ProductImage, pk=image_id)
    try:
        content = renditions.downscaled(stored, SHOWN_SIDE)
    except (FileNotFoundError, ImageProcessingError) as error:
        raise Http404(_("The file of this image cannot be read.")) from error
    response = HttpResponse(content, content_type="image/jpeg")
    # The file never changes, but permissions can. So only the browser may cache it, and no proxy.
    response["Cache-Control"] = "private, max-age=86400, immutable"
    return response


def _case_context(request: HttpRequest, product: Product, form: ReviewFilterForm, conflict: str = "") -> dict[str, Any]:
    matches = product.matches.select_related("candidate", "reviewer", "product_image", "candidate_image")
    case = cases.case_of(product, list(matches.prefetch_related("candidate__images")))
    candidates = _candidates(case)
    return {
        "product": product,
        "case": case,
        "candidates": candidates,
        "product_images": _asked_images(product, candidates),
        "decided": cases.decision_in_words(case.decision) if case.decision else "",
        "conflict": conflict,
        "likely": _likely(case),
        "answer": _answer_in_words(case),
        **_counts(request, form),
        "filter_form": form,
        "query_string": form.query_string(),
        "next_url": _next_url(product, form),
        "may_review": request.user.has_perm(REVIEW_PERMISSION),
    }


def _candidates(case: Case) -> list[dict[str, Any]]:
    """Return what the page shows of each candidate, best first, with the pair of images that has the score.

    ``evidence``: what speaks most for the candidate, and what speaks most against it.
    """
    later, views = cases.found_later(case.matches), _missing_views(case)
    shown = []
    for number, match in enumerate(case.matches, start=1):
        product_image, candidate_image = views.get(match.pk, (match.product_image, match.candidate_image))
        rows = comparison.differences(case.product, match.candidate)
        shown.append(
            {
                "match": match,
                "candidate": match.candidate,
                "key": number if number <= MAX_KEYS else None,
                "image": candidate_image or next(iter(match.candidate.images.all()), None),
                "product_image": product_image or next(iter(case.product.images.all()), None),
                "differences": sorted(rows, key=lambda row: not row.differs),
                "differing": [row.name for row in rows if row.differs],
                "varying": [row.name for row in rows if row.differs and not row.identifies],
                "found_later": match.pk in later,
                "probability": "" if match.probability is None else percent(match.probability),
                "evidence": strongest(match.evidence),
            }
        )
    return shown


def _likely(case: Case) -> str:
    """Return the decision that is probably right, whose button is the main one."""
    best = max((match.probability or 0.0 for match in case.matches), default=0.0)
    none = case.answer.not_in_catalogue if case.answer is not None else None
    return "new" if not case.matches or (none is not None and none > best) else "same"


def _answer_in_words(case: Case) -> str:
    """Return the program's answer as a sentence, or "" without probabilities."""
    if case.answer is None:
        return ""
    shares = [(match.candidate, match.probability) for match in case.matches]
    return answer_in_words(case.answer.answer, case.answer.not_in_catalogue, shares)


def _missing_views(case: Case) -> dict[int, tuple[ProductImage | None, ProductImage | None]]:
    """Return the pair of images that has the score, for matches that were saved without it, by match id."""
    found: dict[int, tuple[ProductImage | None, ProductImage | None]] = {}
    lacking = [match for match in case.matches if match.product_image is None or match.candidate_image is None]
    own = {image.pk: image for image in case.product.images.all()}
    for feature_type, model_name in {(match.feature_type, match.model_name) for match in lacking}:
        of_model = [match for match in lacking if (match.feature_type, match.model_name) == (feature_type, model_name)]
        ids = [image.pk for match in of_model for image in match.candidate.images.all()]
        views = best_views(case.product.pk, ids, feature_type, model_name)
        for match in of_model:
            images = [image for image in match.candidate.images.all() if image.pk in views]
            if images:
                best = max(images, key=lambda image: views[image.pk][1])
                found[match.pk] = (own.get(views[best.pk][0]), best)
    return found


def _asked_images(product: Product, candidates: list[dict[str, Any]]) -> list[ProductImage]:
    """Return the images of the product that the page compares with a candidate, the first candidate's first."""
    compared = {item["product_image"].pk: item["product_image"] for item in candidates if item["product_image"]}
    return list(compared.values()) or list(product.images.all())[:1]


def _case_response(
    request: HttpRequest, product_id: int, form: ReviewFilterForm, conflict: str = "", status: int = 200
) -> HttpResponse:
    products = Product.objects.select_related("decision__reviewer").prefetch_related("images")
    product = get_object_or_404(products, pk=product_id)
    context = _case_context(request, product, form, conflict)
    return TemplateResponse(request, "catalogmatch/review_case.html", context, status=status)


def _in_words(product: Product, decision: Decision, settled: int) -> str:
    text = _("%(product)s: %(decision)s.") % {"product": product, "decision": cases.decision_in_words(decision)}
    if decision.candidates and settled > 0:
        others = ngettext("%d other candidate was settled.", "%d other candidates were settled.", settled) % settled
        text = f"{text} {others}"
    return text


def _next_url(product: Product, form: ReviewFilterForm) -> str:
    return reverse("admin:matching_match_next") + form.query_string(after=product.pk)


def _lease_next(request: HttpRequest, form: ReviewFilterForm, after: int | None) -> int | None:
    """Return the case after this one. A reviewer gets a lease on it; other users only look at it."""
    review_filter, seen = form.review_filter(), None
    if form["order"].value() == USEFUL:
        seen = list(request.session.get(SEEN_KEY, []))
    if request.user.has_perm(REVIEW_PERMISSION):
        found = leases.lease_next_case(user_of(request), review_filter, after, seen)
    else:
        found = queue.next_case(review_filter, after, seen=seen)
    if seen is not None and after is not None and after not in seen:
        # Once all were seen they come again.
        request.session[SEEN_KEY] = [after] if found in seen else [*seen, after][-MAX_SEEN:]
    return found


def _renew_lease(request: HttpRequest, product_id: int) -> bool:
    """Return whether the user may work on the case. A reviewer then has a lease on it."""
    if not request.user.has_perm(REVIEW_PERMISSION):
        return True
    return leases.renew_lease(product_id, user_of(request))


def _filter_form(request: HttpRequest) -> ReviewFilterForm:
    """Return the filter of the page: from its own query string, or from the one that htmx sends.

    The session remembers the order that was chosen last.
    """
    _address, _mark, page_query = request.headers.get("HX-Current-URL", "").partition("?")
    given = (request.GET or QueryDict(page_query.partition("#")[0])).copy()
    if "order" in request.GET and given["order"] in ("", USEFUL):
        request.session[ORDER_KEY] = given["order"]
    given["order"] = request.session.get(ORDER_KEY, "")
    return ReviewFilterForm(given)


def _existing(texts: Iterable[str]) -> list[int]:
    """Return the ids of existing products among these texts, in their order."""
    ids = parse_ids(texts)
    existing = set(Product.objects.filter(pk__in=ids).values_list("pk", flat=True))
    return [product_id for product_id in ids if product_id in existing]


def _counts(request: HttpRequest, form: ReviewFilterForm) -> dict[str, int]:
    """Return the number of open cases and of the user's decisions today."""
    return {"left": queue.open_count(form.review_filter()), "today": queue.decisions_today(user_of(request))}


def _redirect_back(request: HttpRequest) -> HttpResponse:
    url = request.headers.get("Referer", "")
    if url_has_allowed_host_and_scheme(url, {request.get_host()}, request.is_secure()):
        return HttpResponseRedirect(url)  # ``redirect`` would take it for the name of a view first
    return redirect("admin:matching_match_changelist")
