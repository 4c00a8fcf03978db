"""The review page: a new product beside its candidates, the decision, and the next case loaded in advance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST, require_safe

from core.admin.requests import is_htmx, require_permissions, user_of
from core.database.ids import parse_ids
from gpu.imaging.errors import ImageProcessingError
from matching.answers import marks
from matching.answers.estimates import estimates_of
from matching.answers.marks import marks_of
from matching.answers.waterfall import waterfall
from matching.answers.wording import answer_in_words, percent, strongest
from matching.best_views import best_views
from matching.models import MAX_FILTER_NAME, MAX_QUERY_LENGTH, Decision, Match, SavedFilter
from matching.review import cases, comparison, decisions, leases, marking, queue, verdicts
from matching.review.cases import Case
from matching.review.decisions import Choice, ConflictError
from matching.review.queue import BANDS, ReviewFilter
from products.admin.filters import categories
from products.images import renditions
from products.models import Import, Product, ProductImage

VIEW_PERMISSION, REVIEW_PERMISSION = "matching.view_match", "matching.change_match"
MERGE_PERMISSION = "products.delete_product"
# The first and last days that also have a day before and after them, which other time zones need.
DAYS = (MinValueValidator(date(1, 1, 2)), MaxValueValidator(date(9999, 12, 30)))

MAX_FILTERS = 20  # of one user
SHOWN_SIDE = 720  # pixels of the longer side of a large image
MAX_ESTIMATES = 6
MAX_KEYS = 9  # candidates that have a number key
MINUTES_AS_HOURS = 120  # from here on, what is left is said in hours
MAX_RENEWED = 20  # leases in one request; the page has two
# What a session keeps: the order of review, and the cases that the order "most useful first" has shown.
ORDER_KEY, SEEN_KEY = "review_order", "review_seen"
MAX_SEEN = 500


class ReviewFilterForm(forms.Form):
    """Which cases to review, from the query string of the page."""

    kind = forms.ChoiceField(
        label=gettext_lazy("Kind"), required=False,
        choices=[
            ("", gettext_lazy("all")),
            (cases.NEW_PRODUCT, gettext_lazy("new products")),
            (cases.DUPLICATE, gettext_lazy("duplicates")),
        ],
    )  # fmt: skip
    score = forms.ChoiceField(
        label=gettext_lazy("Score"), required=False,
        choices=[("", gettext_lazy("all")), *((band.name, band.label) for band in BANDS)],
    )  # fmt: skip
    category = forms.CharField(label=gettext_lazy("Category"), max_length=200, required=False)
    since = forms.DateField(label=gettext_lazy("Added from"), required=False, validators=DAYS)
    until = forms.DateField(label=gettext_lazy("to"), required=False, validators=DAYS)
    order = forms.ChoiceField(label=gettext_lazy("Order"), required=False, choices=list(queue.ORDERS.items()))
    imported = forms.UUIDField(required=False)

    def review_filter(self) -> ReviewFilter:
        """Return the filter. An invalid field filters nothing."""
        self.is_valid()
        values = dict(self.cleaned_data)
        name = values.pop("score", "")
        band = next((band for band in BANDS if band.name == name), None)
        values["order"] = values.get("order") or queue.NEWEST
        if imported := values.pop("imported", None):
            # An import that is gone has no cases.
            values["imported"] = Import.objects.filter(pk=imported).first() or Import(
                pk=imported, created_at=timezone.now()
            )
        return ReviewFilter(band=band, **values)

    def query_string(self, **more: int) -> str:
        """Return the filter and ``more`` as ``?name=value&…``, or "" if both are empty."""
        query = QueryDict(mutable=True)
        given = {name: self.data[name] for name in self.fields if self.data.get(name)}
        if given.get("order") == queue.NEWEST:
            del given["order"]
        query.update(given | more)
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
    products = Product.objects.select_related("decision__reviewer", "answer").prefetch_related("images")
    product = get_object_or_404(products, pk=product_id)
    form = _filter_form(request)
    context = {
        **admin.site.each_context(request),
        **_case_context(request, product, form),
        "title": _("Review"),
        "categories": sorted({*categories(), form.review_filter().category} - {""}),
        "saved_filters": SavedFilter.objects.filter(user_id=user_of(request).pk),
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
    version, conflict, kept = request.GET.get("version"), "", list[str]()
    try:
        verdicts.set_verdict(
            match_id, request.POST.get("status", ""), user_of(request), version=version, override=False, kept=kept
        )
    except Match.DoesNotExist as error:
        raise Http404(_("This match no longer exists.")) from error
    except ValueError as error:
        return HttpResponseBadRequest(str(error))
    except ConflictError as error:
        conflict = str(error)
    if is_htmx(request):
        match = Match.objects.select_related("candidate", "reviewer").get(pk=match_id)
        context = {"match": match, "may_review": True, "conflict": conflict or " ".join(kept)}
        return TemplateResponse(request, "catalogmatch/verdict.html", context)
    for text in [*filter(None, [conflict]), *kept]:
        messages.error(request, text)
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
    text = " ".join([text, *decided.kept])
    merge_url = _merge_url_of(request, decided)
    if request.headers.get("Accept") == "application/json":
        link = {"url": merge_url, "name": _("Merge them")} if merge_url else None
        return JsonResponse({"text": text, "link": link, "version": decided.version} | _counts(request, form))
    if merge_url:
        text = format_html('{} <a href="{}">{}</a>', text, merge_url, _("Merge them"))
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
    kept: tuple[str, ...] = ()
    try:
        kept = decisions.undo(product_id, user_of(request), version=request.POST.get("version") or None).kept
    except Decision.DoesNotExist:
        pass  # undone already
    except ConflictError as error:
        return HttpResponse(str(error), status=409, content_type="text/plain")
    if not _renew_lease(request, product_id):
        text = " ".join([_("The decision was undone. Another reviewer now has this case."), *kept])
        return HttpResponse(text, status=409, content_type="text/plain")
    if "text/html," in request.headers.get("Accept", ""):  # a browser without the page's script
        for text in kept:
            messages.warning(request, text)
        return redirect("admin:matching_match_case", product_id)
    return _case_response(request, product_id, _filter_form(request), kept=kept)


@require_POST
def mark_evidence(request: HttpRequest, match_id: int) -> HttpResponse:
    """Mark the posted ``kind`` of evidence of a match as wrong, ``of`` the pair or of one product. Show the case."""
    require_permissions(request, REVIEW_PERMISSION)
    try:
        product = marking.mark(
            match_id, request.POST.get("kind", ""), user_of(request), request.POST.get("of") or marking.PAIR
        )
    except Match.DoesNotExist as error:
        raise Http404(_("This match no longer exists.")) from error
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        product = get_object_or_404(Match, pk=match_id).product
    else:
        messages.success(request, _("The probabilities were computed again without it."))
    return redirect("admin:matching_match_case", product.pk)


@require_POST
def unmark_evidence(request: HttpRequest, match_id: int) -> HttpResponse:
    """Take back the posted ``mark``, and show the case of the match."""
    require_permissions(request, REVIEW_PERMISSION)
    match = get_object_or_404(Match, pk=match_id)
    for mark_id in parse_ids(request.POST.getlist("mark"))[:1]:
        marking.unmark(mark_id, match.product_id, user_of(request))
        messages.success(request, _("The evidence counts again."))
    return redirect("admin:matching_match_case", match.product_id)


@require_POST
def save_filter(request: HttpRequest) -> HttpResponse:
    """Save the posted ``query`` of the page under the posted ``name``, or delete the saved filter ``delete``."""
    require_permissions(request, VIEW_PERMISSION)
    mine = SavedFilter.objects.filter(user_id=user_of(request).pk)
    if "delete" in request.POST:
        mine.filter(pk__in=parse_ids([request.POST["delete"]])).delete()
        return redirect("admin:matching_match_next")
    form = ReviewFilterForm(QueryDict(request.POST.get("query", "").lstrip("?")[:MAX_QUERY_LENGTH]))
    name, query = request.POST.get("name", "").strip()[:MAX_FILTER_NAME], form.query_string()
    if not name or not query or "\0" in name or not form.is_valid():
        messages.error(request, _("Choose a filter or an order first, and give it a name."))
    elif mine.exclude(name=name).count() >= MAX_FILTERS:
        messages.error(request, _("You have %(count)d saved filters. Delete one first.") % {"count": MAX_FILTERS})
    else:
        SavedFilter.objects.update_or_create(user_id=user_of(request).pk, name=name, defaults={"query": query})
        messages.success(request, _("The filter %(name)s was saved.") % {"name": name})
    return redirect(reverse("admin:matching_match_next") + query)


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
        "asked_as": _("In the catalogue too") if case.kind == cases.DUPLICATE else _("New product"),
        "case": case,
        "candidates": candidates,
        "product_images": _asked_images(product, candidates),
        "decided": cases.decision_in_words(case.decision) if case.decision else "",
        "decided_by": decisions.decided_by(case.decision) if case.decision else "",
        "conflict": conflict,
        "likely": _likely(case),
        "estimates": estimates_of({product.pk: cases.probable_candidates(case.matches)})[product.pk][:MAX_ESTIMATES],
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
    marked = marks_of(case.product.pk, [match.candidate_id for match in case.matches])
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
                "bars": _bars(match),
                "marks": marked[match.candidate_id],
            }
        )
    return shown


def _bars(match: Match) -> list[dict[str, Any]]:
    """Return the waterfall of a match, and which of its evidence can be marked as wrong."""
    bars = waterfall(match.evidence, match.probability)
    kinds = {item["kind"] for item in match.evidence} - {*marking.IMAGE_KINDS}
    fields = ("text", "kind", "direction", "weight", "x", "width", "is_total")
    return [
        {name: getattr(bar, name) for name in fields}
        | {"markable": bar.kind in kinds, "is_number": bar.kind in marks.NUMBERS}
        for bar in bars
    ]


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
    request: HttpRequest,
    product_id: int,
    form: ReviewFilterForm,
    conflict: str = "",
    status: int = 200,
    kept: Sequence[str] = (),
) -> HttpResponse:
    products = Product.objects.select_related("decision__reviewer", "answer").prefetch_related("images")
    product = get_object_or_404(products, pk=product_id)
    context = {**_case_context(request, product, form, conflict), "kept": kept}
    return TemplateResponse(request, "catalogmatch/review_case.html", context, status=status)


def _in_words(product: Product, decision: Decision, settled: int) -> str:
    text = _("%(product)s: %(decision)s.") % {"product": product, "decision": cases.decision_in_words(decision)}
    if decision.candidates and settled > 0:
        others = ngettext("%d other candidate was settled.", "%d other candidates were settled.", settled) % settled
        text = f"{text} {others}"
    return text


def _merge_url_of(request: HttpRequest, case: Case) -> str:
    """Return the page that merges the products of a case inside the catalogue, if they are the same, or ""."""
    decision = case.decision
    if decision is None or decision.kind != Decision.Kind.SAME or case.kind != cases.DUPLICATE:
        return ""
    return merge_address(decision.candidates[0], case.product.pk) if request.user.has_perm(MERGE_PERMISSION) else ""


def merge_address(kept_id: int, other_id: int) -> str:
    """Return the page that shows what merging two products does."""
    query = QueryDict(mutable=True)
    query.update({"keep": str(kept_id), "other": str(other_id)})
    return f"{reverse('admin:merge')}?{query.urlencode()}"


def _next_url(product: Product, form: ReviewFilterForm) -> str:
    return reverse("admin:matching_match_next") + form.query_string(after=product.pk)


def _lease_next(request: HttpRequest, form: ReviewFilterForm, after: int | None) -> int | None:
    """Return the case after this one. A reviewer gets a lease on it; other users only look at it."""
    review_filter = form.review_filter()
    is_useful = review_filter.order == queue.USEFUL
    seen = list(request.session.get(SEEN_KEY, [])) if is_useful else []
    if request.user.has_perm(REVIEW_PERMISSION):
        found = leases.lease_next_case(user_of(request), review_filter, after, seen)
    else:
        found = queue.next_case(review_filter, after, seen=seen)
    if is_useful and after is not None and after not in seen:
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
    if request.GET.get("order") in queue.ORDERS:
        request.session[ORDER_KEY] = given["order"]
    given["order"] = given.get("order") or request.session.get(ORDER_KEY, queue.NEWEST)
    return ReviewFilterForm(given)


def _existing(texts: Iterable[str]) -> list[int]:
    """Return the ids of existing products among these texts, in their order."""
    ids = parse_ids(texts)
    existing = set(Product.objects.filter(pk__in=ids).values_list("pk", flat=True))
    return [product_id for product_id in ids if product_id in existing]


def _counts(request: HttpRequest, form: ReviewFilterForm) -> dict[str, Any]:
    """Return the number of open cases, of the user's decisions today, and how fast they come in words."""
    left = queue.open_count(form.review_filter())
    today, pace = queue.today_and_pace(user_of(request))
    return {"left": left, "today": today, "pace": _pace_in_words(pace, left)}


def _pace_in_words(pace: float | None, left: int) -> str:
    if pace is None:
        return ""
    minutes = round(left / pace)
    rest = ngettext("about %d minute left", "about %d minutes left", minutes) % minutes
    if minutes >= MINUTES_AS_HOURS:
        hours = round(minutes / 60)
        rest = ngettext("about %d hour left", "about %d hours left", hours) % hours
    return _("%(pace).0f a minute, %(rest)s") % {"pace": max(pace, 1), "rest": rest} if left else ""


def _redirect_back(request: HttpRequest) -> HttpResponse:
    url = request.headers.get("Referer", "")
    if url_has_allowed_host_and_scheme(url, {request.get_host()}, request.is_secure()):
        return HttpResponseRedirect(url)  # ``redirect`` would take it for the name of a view first
    return redirect("admin:matching_match_changelist")
