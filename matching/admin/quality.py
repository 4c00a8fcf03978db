"""The page Quality: how good the answers were, by people's decisions, audits and self-audits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from core.admin.pages import admin_page
from core.admin.requests import require_permissions
from matching.answers.wording import percent
from matching.models import Decision, Policy, SelfAudit
from matching.policy import audit, past
from matching.policy.past import Past
from matching.quality import curves, self_audit
from matching.quality.plots import Plot, plot, points, x_of, y_of
from matching.quality.switch import NIGHTLY
from products import preferences
from products.exporting import LARGE_COLUMNS
from products.models import Product

AUDITS = 14  # self-audits in the chart
MAX_NAMED = 8  # products that a self-audit missed


@admin_page("quality/", name="quality")
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show charts of past decisions, by ``?category=`` or all, and the newest audits."""
    require_permissions(request, "matching.view_match")
    everything = past.read()
    category = request.GET.get("category")
    known = category is not None and any(one.category == category for one in everything)
    chosen = [one for one in everything if one.category == category] if known else everything
    weeks = curves.by_week(chosen, timezone.now())
    bins, curve = curves.reliability(chosen), curves.precision_by_coverage(chosen)
    error = curves.calibration_error(chosen)
    policies = Policy.objects.all() if request.user.has_perm("matching.view_policy") else Policy.objects.none()
    context = {
        "title": _("Quality"),
        "count": len(chosen),
        "category": category if known else None,
        "bins": bins,
        "reliability": _reliability(bins),
        "error": "" if error is None else f"{100 * error:.1f}",
        "curve": _thinned(curve),
        "precision": _precision(curve),
        "weeks": [(_week(age), group) for age, group in weeks],
        "recall": _recall(weeks),
        "categories": [(group.name or _("without a category"), group) for group in curves.by_category(everything)],
        "confusions": _confusions(curves.confusions(chosen)),
        "audits": [(policy, audit.audit_of(policy)) for policy in policies if policy.is_on],
        **_self_audits(),
        "nightly": preferences.value(NIGHTLY),
    }
    return TemplateResponse(request, "catalogmatch/quality.html", {**admin.site.each_context(request), **context})


def _reliability(bins: Sequence[curves.Bin]) -> Plot:
    drawn = plot()
    drawn.lines.append(("cm-quality-even", points([(0, 0), (1, 1)])))
    for one in bins:
        text = _("promised %(promised)s, right %(right)s of %(count)d") % {
            "promised": percent(one.promised), "right": percent(one.right), "count": one.count,
        }  # fmt: skip
        drawn.dots.append((x_of(one.promised), y_of(one.right), text))
        drawn.whiskers.append((x_of(one.promised), y_of(one.low), y_of(one.high)))
    return drawn


def _precision(curve: Sequence[tuple[float, float, float]]) -> Plot:
    drawn = plot()
    if curve:
        drawn.lines.append(("cm-quality-bound", points([(coverage, low) for coverage, _right, low in curve])))
        drawn.lines.append(("cm-quality-line", points([(coverage, right) for coverage, right, _low in curve])))
    return drawn


def _recall(weeks: Sequence[tuple[int, curves.Group]]) -> Plot:
    last = curves.WEEKS - 1
    drawn = plot([(0.0, _("%d weeks ago") % last), (1.0, _("now"))])
    places = [(1 - age / last, group) for age, group in weeks if group.same]
    for name, values in (
        ("cm-quality-bound", [(x, group.recall_listed or 0.0) for x, group in places]),
        ("cm-quality-line", [(x, group.recall or 0.0) for x, group in places]),
    ):
        drawn.lines.append((name, points(values)))
    for x, group in places:
        drawn.dots.append((x_of(x), y_of(group.recall or 0.0), f"{group.first} / {group.same}"))
    return drawn


def _thinned(curve: Sequence[tuple[float, float, float]]) -> list[tuple[str, str, str]]:
    """Return some points of a curve as a table has them."""
    step = max(1, len(curve) // 6)
    return [(percent(coverage), percent(right), percent(low)) for coverage, right, low in curve[step - 1 :: step]]


def _week(age: int) -> str:
    return _("this week") if age == 0 else _("%d weeks ago") % age


def _confusions(found: Sequence[Past]) -> list[dict[str, Any]]:
    """Return confused pairs with what people decided. Pairs whose products were deleted are left out."""
    ids = {one.product for one in found} | {one.candidate for one in found if one.candidate is not None}
    shown = Product.objects.defer(*LARGE_COLUMNS).prefetch_related("images")
    products = {product.pk: product for product in shown.filter(pk__in=ids)}
    kinds = dict(Decision.Kind.choices)
    return [
        {
            "product": products[one.product],
            "candidate": products[one.candidate],
            "probability": percent(one.probability),
            "decision": kinds[one.kind] if one.kind != Decision.Kind.SAME else _("another product"),
            "url": reverse("admin:matching_match_case", args=[one.product]),
        }
        for one in found
        if one.product in products and one.candidate in products
    ]


def _self_audits() -> dict[str, Any]:
    newest = self_audit.latest()
    if newest is None:
        return {"newest_audit": None}
    done = SelfAudit.objects.filter(is_done=True, expected__gt=0).order_by("-pk")[:AUDITS]
    in_order = list(reversed(done))
    last = max(1, len(in_order) - 1)
    drawn = plot([(0.0, f"{in_order[0].made_at:%d.%m.}"), (1.0, f"{in_order[-1].made_at:%d.%m.}")])
    found = [(place / last, one.found / one.expected) for place, one in enumerate(in_order)]
    alarms = [(place / last, one.false_alarms / max(1, one.left_out)) for place, one in enumerate(in_order)]
    drawn.lines.extend([("cm-quality-alarms", points(alarms)), ("cm-quality-line", points(found))])
    drawn.dots.extend(
        (x_of(x), y_of(share), f"{one.found} / {one.expected}") for (x, share), one in zip(found, in_order, strict=True)
    )
    missed = Product.objects.defer(*LARGE_COLUMNS).filter(pk__in=newest.report["missed"][:MAX_NAMED])
    return {
        "newest_audit": newest,
        "audit_problem": self_audit.problem_of(newest),
        "audit_plot": drawn,
        "audit_rows": in_order,
        "missed": list(missed.order_by("pk")),
    }
