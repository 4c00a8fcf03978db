"""The page Duplicates: look for pairs inside the catalogue, review them, merge products and undo that."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from core.admin.pages import admin_page
from core.admin.requests import is_htmx, require_permissions, user_of
from core.database.ids import parse_id
from core.disk import NoRoomError
from matching.admin.review import MERGE_PERMISSION, VIEW_PERMISSION, merge_address
from matching.duplicates import merging, search, unmerging
from matching.learning import model_jobs
from matching.models import ModelJob
from matching.review.cases import DUPLICATE
from matching.review.decisions import StaleError
from products.merges import product_with_sku
from products.models import Product, ProductMerge

SEARCH_PERMISSION = "matching.add_match"
PER_PAGE = 25
_BUSY = gettext_lazy("Another job is running: %(job)s. Try again when it has ended.")


class SearchForm(forms.Form):
    threshold = forms.IntegerField(min_value=1, max_value=100)


@admin_page("duplicates/", name="duplicates")
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show the last search, what waits, and what can be merged. Return only the progress to htmx."""
    require_permissions(request, VIEW_PERMISSION)
    job = _last_job()
    may_search = request.user.has_perm(SEARCH_PERMISSION)
    if is_htmx(request):
        if job is None or not job.is_active:
            return HttpResponse(headers={"HX-Refresh": "true"})
        context = {"job": job, "may_search": may_search}
        return TemplateResponse(request, "catalogmatch/duplicates_progress.html", context)
    page = Paginator(search.to_merge(), PER_PAGE).get_page(request.GET.get("p"))
    products = Product.objects.prefetch_related("images").in_bulk(
        [pk for decision in page for pk in (decision.product_id, *decision.candidates)]
    )
    pairs = [
        {"decision": decision, "other": products[decision.product_id], "kept": products[pk],
         "url": merge_address(pk, decision.product_id)}
        for decision in page
        for pk in decision.candidates[:1]
        if pk in products
    ]  # fmt: skip
    return _page(
        request, "catalogmatch/duplicates.html",
        title=_("Duplicates"), job=job, may_search=may_search, may_merge=request.user.has_perm(MERGE_PERMISSION),
        waiting=search.open_cases().count(), pairs=pairs, page=page, kind=DUPLICATE,
        threshold=round(100 * search.DEFAULT_THRESHOLD), products=Product.objects.filter(is_historical=True).count(),
        merges=ProductMerge.objects.select_related("kept", "merged_by")[:PER_PAGE],
    )  # fmt: skip


@admin_page("duplicates/search/", name="duplicates_search")
@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Start to look for duplicates with the posted ``threshold``, in percent."""
    require_permissions(request, SEARCH_PERMISSION)
    form = SearchForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("The lowest probability is a number from 1 to 100."))
        return redirect("admin:duplicates")
    try:
        model_jobs.start_duplicates(user_of(request), form.cleaned_data["threshold"] / 100)
    except model_jobs.BusyError as busy:
        messages.warning(request, _BUSY % {"job": busy.job})
    return redirect("admin:duplicates")


@admin_page("duplicates/stop/", name="duplicates_stop")
@require_POST
def stop(request: HttpRequest) -> HttpResponse:
    """Stop the search."""
    require_permissions(request, SEARCH_PERMISSION)
    job = _last_job()
    if job is None or not model_jobs.stop(job):
        messages.info(request, _("This job is already done."))
    return redirect("admin:duplicates")


@admin_page("duplicates/continue/", name="duplicates_continue")
@require_POST
def resume(request: HttpRequest) -> HttpResponse:
    """Go on with a search that was stopped, or that a restart of the server has stopped."""
    require_permissions(request, SEARCH_PERMISSION)
    job = _last_job()
    try:
        if job is None or not model_jobs.go_on(job):
            messages.info(request, _("This job is already running or done."))
    except model_jobs.BusyError as busy:
        messages.warning(request, _BUSY % {"job": busy.job})
    return redirect("admin:duplicates")


@admin_page("merge/", name="merge")
@require_http_methods(["GET", "HEAD", "POST"])
def merge(request: HttpRequest) -> HttpResponse:
    """Show what merging the product ``other`` into ``keep`` does. A post does it.

    Both are ids. ``other`` can be a SKU too.
    """
    require_permissions(request, MERGE_PERMISSION)
    given = request.POST if request.method == "POST" else request.GET
    kept_id = parse_id(given.get("keep", "")) or 0
    other_id = _other_id(given.get("other", ""))
    if not Product.objects.filter(pk=kept_id).exists():
        raise Http404(_("This product no longer exists."))
    try:
        if request.method == "POST":
            taken = [str(key) for name, key in request.POST.items() if name.startswith("of-") and key]
            merging.merge(kept_id, other_id, user_of(request), taken, request.POST.get("version") or None)
            messages.success(request, _("The products were merged. You can undo that below."))
            return redirect("admin:products_product_change", kept_id)
        planned = merging.preview(kept_id, other_id)
    except Product.DoesNotExist:
        messages.error(request, _("There is no other product with this SKU or id."))
        return redirect("admin:products_product_change", kept_id)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return redirect("admin:products_product_change", kept_id)
    except StaleError as error:
        messages.error(request, str(error))
        return redirect(merge_address(kept_id, other_id))
    except NoRoomError as error:
        messages.error(request, str(error))
        return redirect("admin:products_product_change", kept_id)
    swap = merge_address(other_id, kept_id)
    return _page(request, "catalogmatch/merge.html", title=_("Merge?"), planned=planned, swap=swap)


@admin_page("merge/undo/", name="merge_undo")
@require_POST
def undo(request: HttpRequest) -> HttpResponse:
    """Undo the merge of the product that had the posted id ``old``."""
    require_permissions(request, MERGE_PERMISSION)
    old_id = parse_id(request.POST.get("old", "")) or 0
    try:
        kept = unmerging.undo(old_id, user_of(request))
    except ProductMerge.DoesNotExist as error:
        raise Http404(_("This merge was undone already.")) from error
    except (ValidationError, NoRoomError) as error:
        messages.error(request, " ".join(error.messages) if isinstance(error, ValidationError) else str(error))
        return redirect("admin:duplicates")
    messages.success(request, _("The merge was undone."))
    for text in kept:
        messages.warning(request, text)
    return redirect("admin:products_product_change", old_id)


def _last_job() -> ModelJob | None:
    return ModelJob.objects.filter(kind=ModelJob.Kind.DUPLICATES).select_related("user").order_by("-created_at").first()


def _other_id(text: str) -> int:
    """Return the id of the product with this SKU or id, or 0."""
    product = product_with_sku(text.strip()) if text.strip() else None
    return product.pk if product is not None else parse_id(text) or 0


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context})
