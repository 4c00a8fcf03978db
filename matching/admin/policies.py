"""The page Policy: what is decided without a person, what it would decide, its audit, and undoing a day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from core.admin.pages import admin_page
from core.admin.requests import require_permissions, user_of
from matching import service
from matching.answers.wording import percent
from matching.models import Decision, Policy
from matching.policy import audit, evaluation, switching, tasks, undoing
from matching.policy.evaluation import Preview, Side
from matching.policy.past import Past
from matching.policy.switching import Settings
from products.admin.filters import categories
from products.exporting import LARGE_COLUMNS
from products.models import Product

VIEW, CHANGE = "matching.view_policy", "matching.change_policy"
DAYS = 14  # whose automatic decisions the page lists


class PolicyForm(forms.Form):
    """What a policy may decide. Shares are in percent, as people say them."""

    confirms = forms.BooleanField(label=gettext_lazy("Confirm the same product"), required=False)
    calls_new = forms.BooleanField(label=gettext_lazy("Call a product new"), required=False)
    promise = forms.FloatField(label=gettext_lazy("Promise: right in, %"), min_value=80, max_value=99.9)
    confidence = forms.TypedChoiceField(
        label=gettext_lazy("With a confidence of"), coerce=float,
        choices=[(str(one), f"{100 * one:g}\u00a0%") for one in switching.CONFIDENCES],
    )  # fmt: skip
    audit_share = forms.FloatField(label=gettext_lazy("People check all the same, %"), min_value=0.5, max_value=50)

    @classmethod
    def of(cls, policy: Policy) -> PolicyForm:
        values = vars_of(Settings.of(policy))
        shares = {name: f"{100 * values[name]:g}" for name in ("promise", "audit_share")}
        return cls(initial=values | shares | {"confidence": str(policy.confidence)})

    def settings(self) -> Settings:
        values = dict(self.cleaned_data)
        for name in ("promise", "audit_share"):
            values[name] = round(values[name] / 100, 6)
        return Settings(**values)


def vars_of(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in Settings.__slots__}


@admin_page("policy/", name="policy")
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show all policies with their audits, and the automatic decisions of the last days."""
    require_permissions(request, VIEW)
    policies = list(Policy.objects.all())
    if not any(policy.category == "" for policy in policies):
        policies.insert(0, Policy())
    own = {policy.category for policy in policies}
    today = timezone.localdate()
    days = [today - timedelta(days=number) for number in range(DAYS)]
    by_day = [(day, undoing.automatic_on(day).count()) for day in days]
    context = {
        "title": _("Policy"),
        "rows": [_row(policy) for policy in policies],
        "others": [category for category in categories() if category not in own],
        "by_day": [(day, count) for day, count in by_day if count],
        "automatic": Decision.objects.filter(automatic=True).count(),
        "may_change": request.user.has_perm(CHANGE),
    }
    return _page(request, "catalogmatch/policies.html", context)


@admin_page("policy/edit/", name="policy_edit")
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest) -> HttpResponse:
    """Show what the policy of ``?category=`` would do. Save the posted one, or only show what it would do."""
    require_permissions(request, VIEW if request.method != "POST" else CHANGE)
    category = request.GET.get("category", "")
    policy = switching.policy_of(category)
    if request.method != "POST":
        return _edit_page(request, policy, PolicyForm.of(policy))
    form = PolicyForm(request.POST)
    if not form.is_valid():
        return _edit_page(request, policy, form, status=422)
    wanted = form.settings()
    if "try" in request.POST:
        for name in Settings.__slots__:
            setattr(policy, name, getattr(wanted, name))
        return _edit_page(request, policy, form)
    try:
        saved = switching.change(category, wanted, user_of(request))
    except ValidationError as error:
        known = error.message_dict
        form.add_error(None, known.pop("category", []))
        for name, texts in known.items():
            form.add_error(name, texts)
        for name in Settings.__slots__:
            setattr(policy, name, getattr(wanted, name))
        return _edit_page(request, policy, form, status=422)
    if saved.is_on:
        tasks.notify_workers()
    messages.success(request, _("The policy is saved."))
    return redirect(_edit_url(category))


@admin_page("policy/resume/", name="policy_resume")
@require_POST
def resume(request: HttpRequest) -> HttpResponse:
    """Let the paused policy of ``?category=`` go on."""
    require_permissions(request, CHANGE)
    policy = get_object_or_404(Policy, category=request.GET.get("category", ""))
    try:
        switching.resume(policy, user_of(request))
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        tasks.notify_workers()
        messages.success(request, _("The policy decides again, with a new audit."))
    return redirect(_edit_url(policy.category))


@admin_page("policy/remove/", name="policy_remove")
@require_POST
def remove(request: HttpRequest) -> HttpResponse:
    """Remove the own policy of ``?category=``, so that the one of all others counts."""
    require_permissions(request, CHANGE)
    policy = get_object_or_404(Policy.objects.exclude(category=""), category=request.GET.get("category", ""))
    switching.remove(policy, user_of(request))
    messages.success(request, _("%s now has the policy of all other categories.") % policy.category)
    return redirect("admin:policy")


@admin_page("policy/undo/", name="policy_undo")
@require_http_methods(["GET", "HEAD", "POST"])
def undo(request: HttpRequest) -> HttpResponse:
    """Show how many automatic decisions of ``day`` would be undone. Undo them if that is posted."""
    require_permissions(request, CHANGE)
    try:
        day = date.fromisoformat((request.POST or request.GET).get("day", ""))
        count = undoing.automatic_on(day).count()
    except (ValueError, OverflowError):
        messages.error(request, _("Choose a day from the list."))
        return redirect("admin:policy")
    if request.method == "POST":
        done = undoing.undo_day(day, user_of(request))
        text = ngettext("%d automatic decision was undone.", "%d automatic decisions were undone.", done) % done
        messages.success(request, text)
        return redirect("admin:policy")
    return _page(request, "catalogmatch/policy_undo.html", {"title": _("Undo?"), "day": day, "count": count})


def _row(policy: Policy) -> dict[str, Any]:
    """Return what the list shows of a policy."""
    found = audit.audit_of(policy) if policy.pk is not None else None
    return {
        "policy": policy,
        "url": _edit_url(policy.category),
        "state": _state(policy),
        "decides": [str(name) for name, is_on in _decides(policy) if is_on],
        "audit": found,
        "audit_words": found.in_words() if found is not None and policy.is_on else "",
    }


def _state(policy: Policy) -> tuple[str, str]:
    """Return the state of a policy with the class of its label."""
    if policy.paused_at is not None:
        return _("paused"), "failed"
    if not policy.is_on:
        return _("off"), ""
    _kind, model, _head = service.version_in_use()
    at = evaluation.thresholds(policy, model)
    return (_("on"), "ready") if at.same_from or at.new_from else (_("on, not carried"), "pending")


def _decides(policy: Policy) -> Sequence[tuple[str, bool]]:
    return ((_("confirms"), policy.confirms), (_("calls new"), policy.calls_new))


def _edit_page(request: HttpRequest, policy: Policy, form: PolicyForm, status: int = 200) -> HttpResponse:
    _kind, model, _head = service.version_in_use()
    seen = evaluation.preview(policy, model)
    found = audit.audit_of(policy) if policy.pk is not None else None
    last = policy.history.order_by("-pk").select_related("history_user").first() if policy.pk is not None else None
    together = seen.same.today + seen.new.today
    context = {
        "title": _("Policy: %s") % policy,
        "policy": policy,
        "form": form,
        "query": "?" + urlencode({"category": policy.category}),
        "seen": seen,
        "share_today": percent(together / seen.open) if seen.open else "",
        "sides": [
            _side(_("Confirm the same product"), seen.same, seen),
            _side(_("Call a product new"), seen.new, seen),
        ],
        "audit": found,
        "state": _state(policy) if policy.pk is not None else (_("off"), ""),
        "audit_words": found.in_words() if found is not None else "",
        "promise": f"{100 * policy.promise:g}\u00a0%",
        "last_change": last,
        "may_change": request.user.has_perm(CHANGE),
        "is_own": policy.pk is not None and policy.category != "",
    }
    return _page(request, "catalogmatch/policy.html", context, status=status)


def _side(title: str, side: Side, seen: Preview) -> dict[str, Any]:
    return {
        "title": title,
        "is": side,
        "from": "" if side.decided_from is None else f"{100 * side.decided_from:.1f}\u00a0%",
        "share": percent(side.today / seen.open) if seen.open else "–",
        "right": side.decided - len(side.mistakes),
        "mistakes": _mistakes(side.mistakes[: evaluation.MAX_LISTED]),
        "more": max(0, len(side.mistakes) - evaluation.MAX_LISTED),
    }


def _mistakes(found: Sequence[Past]) -> list[dict[str, Any]]:
    """Return past decisions with their products, as far as these still exist."""
    ids = {one.product for one in found} | {one.candidate for one in found if one.candidate is not None}
    products = Product.objects.defer(*LARGE_COLUMNS).in_bulk(list(ids))
    return [
        {
            "product": products[one.product],
            "candidate": products.get(one.candidate) if one.candidate is not None else None,
            "probability": percent(max(one.probability, one.not_in_catalogue)),
            "url": reverse("admin:matching_match_case", args=[one.product]),
        }
        for one in found
        if one.product in products
    ]


def _edit_url(category: str) -> str:
    return reverse("admin:policy_edit") + "?" + urlencode({"category": category})


def _page(request: HttpRequest, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context}, status=status)
