"""The pages Agreement and Second opinion: how far two reviewers agree, and where they do not."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from core.admin.pages import admin_page
from core.admin.requests import require_permissions, user_of
from core.database.ids import parse_id, parse_ids
from matching.models import Decision
from matching.review import agreement, second_opinions
from matching.review.agreement import SHARE
from matching.review.decisions import ConflictError
from matching.review.second_opinions import OpinionError
from products.models import Product
from products.preferences import value

VIEW, REVIEW, SETTLE = "matching.view_match", "matching.change_match", "matching.change_secondopinion"
MAX_SHOWN = 50  # disagreements


@admin_page("agreement/", name="agreement")
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show how far two reviewers agree, and the disagreements with both answers."""
    require_permissions(request, VIEW)
    opinions = list(second_opinions.disagreements()[:MAX_SHOWN])
    sides = [side for opinion in opinions for side in (opinion.first, opinion.second) if side]
    named = {pk for side in sides for pk in side["candidates"]}
    names = Product.objects.filter(pk__in=named).prefetch_related("images").in_bulk()
    kinds = dict(Decision.Kind.choices)

    def words(side: dict[str, Any]) -> dict[str, Any]:
        products = [names[pk] for pk in side["candidates"] if pk in names]
        return {"kind": kinds.get(side["kind"], side["kind"]), "products": products}

    context = {
        **admin.site.each_context(request),
        "title": _("Agreement"),
        "found": agreement.agreement(),
        "share": value(SHARE),
        "waiting": second_opinions.waiting_for(user_of(request)).count(),
        "may_answer": request.user.has_perm(REVIEW),
        "may_settle": request.user.has_perm(SETTLE),
        "rows": [{"is": one, "first": words(one.first), "second": words(one.second or one.first)} for one in opinions],
    }
    return TemplateResponse(request, "catalogmatch/agreement.html", context)


@admin_page("agreement/second/", name="second_opinion")
@require_http_methods(["GET", "HEAD", "POST"])
def second(request: HttpRequest) -> HttpResponse:
    """Show the next decided case without its answer. A post stores the second answer."""
    require_permissions(request, REVIEW)
    if request.method == "POST":
        _answer(request)
        return redirect("admin:second_opinion")
    opinion = second_opinions.waiting_for(user_of(request)).select_related("product").first()
    if opinion is None:
        messages.info(request, _("No case waits for your second opinion."))
        return redirect("admin:agreement")
    matches = opinion.product.matches.select_related("candidate").prefetch_related("candidate__images")
    context = {
        **admin.site.each_context(request),
        "title": _("Second opinion"),
        "opinion": opinion,
        "product": opinion.product,
        "matches": matches.order_by("-similarity_score", "pk"),
        "waiting": second_opinions.waiting_for(user_of(request)).count(),
    }
    return TemplateResponse(request, "catalogmatch/second_opinion.html", context)


@admin_page("agreement/settle/", name="settle_disagreement")
@require_POST
def settle(request: HttpRequest) -> HttpResponse:
    """Keep the first answer of the posted ``opinion``, or ``take`` the ``second``."""
    require_permissions(request, SETTLE)
    opinion_id = parse_id(request.POST.get("opinion", "")) or 0
    try:
        takes_second = request.POST.get("take") == "second"
        second_opinions.settle(opinion_id, takes_second=takes_second, manager=user_of(request))
    except (OpinionError, ConflictError) as error:
        messages.error(request, str(error))
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, _("The disagreement is settled."))
    return redirect("admin:agreement")


def _answer(request: HttpRequest) -> None:
    kind = request.POST.get("decision", "")
    names_candidates = kind in (Decision.Kind.SAME, Decision.Kind.VARIANT)
    candidates = parse_ids(request.POST.getlist("candidate")) if names_candidates else []
    opinion_id = parse_id(request.POST.get("opinion", "")) or 0
    try:
        second_opinions.answer(opinion_id, kind, candidates, user_of(request))
    except OpinionError as error:
        messages.error(request, str(error))
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        # Not whether it agrees: that would tell the first answer.
        messages.success(request, _("Your answer is stored."))
