"""Matches in the admin: the list of matches, and the matches in the product list and on a product's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.contrib.filters.admin import ChoicesRadioFilter
from unfold.decorators import display

from core.admin.export import ExportAdmin
from core.admin.history import HistoryRecords
from core.admin.paging import LongListAdmin, search_words
from core.admin.requests import user_of
from core.database.ids import parse_id, parse_ids
from core.spreadsheets.export import ExportTable
from matching import exporting, service
from matching.admin import review
from matching.admin.filters import (
    DeciderFilter,
    DecisionFilter,
    PendingMatchesFilter,
    QueryCategoryFilter,
    ScoreBandFilter,
    VerdictDateFilter,
)
from matching.answers.wording import percent
from matching.index import SearchVectorError
from matching.models import Decision, Match
from matching.rematch import rematch
from matching.review import first_steps, proposals, verdicts
from matching.text_search import MAX_PRODUCTS, search_matches
from products.admin.bulk_delete import BulkDeleteAdmin
from products.admin.history import CatalogueHistoryAdmin
from products.admin.products import ProductAdmin
from products.merges import moved_to
from products.models import Product, ProductImage, ProductMerge
from products.queue.query_features import FeaturesPendingError

Status = Match.Status

INLINE_LIMIT = 100  # products that are matched while the user waits
MAX_MESSAGES = 5  # of one kind


@admin.register(Product)
class MatchedProductAdmin(ProductAdmin):
    list_display = ("summary", "category", "catalogue_badge", "images_state", "waiting", "added")
    list_filter = (*ProductAdmin.list_filter, PendingMatchesFilter)
    actions = ("match_now", *ProductAdmin.actions)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Product]:
        pending = Match.objects.filter(product=OuterRef("pk"), review_status=Status.PENDING).order_by()
        count = pending.values("product").annotate(n=Count("pk")).values("n")
        return super().get_queryset(request).annotate(waiting_count=Coalesce(Subquery(count), 0))

    def why_empty(self, request: HttpRequest) -> dict[str, Any]:
        return first_steps.why_no_products(request)

    @display(description=_("waiting"))
    def waiting(self, product: Product) -> str:
        count = product.waiting_count  # type: ignore[attr-defined]  # annotated above
        if not count:
            return "–" if not product.is_historical else ""
        url = reverse("admin:matching_match_case", args=[product.pk])
        text = ngettext("%d to review", "%d to review", count) % count
        return format_html('<a class="cm-pill cm-pill-act" href="{}">{}</a>', url, text)

    @admin.action(description=_("Match now"), permissions=["match"])
    def match_now(self, request: HttpRequest, products: QuerySet[Product]) -> None:
        """Match a few products while the user waits, and more through the queue."""
        if len(products.order_by("pk").values_list("pk", flat=True)[: INLINE_LIMIT + 1]) > INLINE_LIMIT:
            self._match_later(request, products)
        else:
            self._match_inline(request, products)

    def _match_later(self, request: HttpRequest, products: QuerySet[Product]) -> None:
        count = rematch(products)
        if settings.HAS_BROKER:
            text = ngettext("%d new product will be matched.", "%d new products will be matched.", count)
        else:
            text = str(_("%d new products wait to be matched. No worker is running. Run `manage.py match_products`."))
        messages.success(request, text % count)

    def _match_inline(self, request: HttpRequest, products: QuerySet[Product]) -> None:
        reasons: dict[int, str] = {}

        def collect_reason(product_id: int, reason: str | None) -> None:
            if reason:
                reasons[product_id] = reason

        count = service.match_products(products.values_list("pk", flat=True), progress=collect_reason)
        if count:
            text = ngettext("%d product was matched.", "%d products were matched.", count) % count
            messages.success(request, text)
        for reason in list(reasons.values())[:5]:
            messages.warning(request, reason)

    def has_match_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("matching.add_match"))

    def get_urls(self) -> list[URLPattern]:
        match = self._post(self.post_match, "matching.add_match")
        accept = self._post(self.post_accept)
        return [
            path("<int:pk>/match/", match, name="products_product_match"),
            path("<int:pk>/accept/", accept, name="products_product_accept"),
            *super().get_urls(),
        ]

    def post_accept(self, request: HttpRequest, product: Product) -> HttpResponse:
        """Give the product the posted ``fact``s that the decision on the posted ``case`` proposes."""
        case = next(iter(parse_ids(request.POST.getlist("case"))), 0)
        try:
            count = proposals.accept(product.pk, case, request.POST.getlist("fact"), user_of(request))
        except Product.DoesNotExist as error:
            raise Http404(_("This product no longer exists.")) from error
        text = ngettext("%d value was carried over.", "%d values were carried over.", count)
        messages.success(request, text % count if count else _("Nothing was changed. It is no longer proposed."))
        return redirect("admin:products_product_change", product.pk)

    def post_match(self, request: HttpRequest, product: Product) -> HttpResponse:
        try:
            result = service.find_and_save_matches(product.pk)
        except (FeaturesPendingError, SearchVectorError) as error:
            messages.warning(request, str(error))
        else:
            count = len(result.candidates)
            text = ngettext("%d candidate was found.", "%d candidates were found.", count) % count
            messages.success(request, text)
        return redirect("admin:products_product_change", product.pk)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = dict(extra_context or {})
        product = self.get_object(request, object_id)
        product_id = parse_id(object_id)
        if product is None and product_id is not None and (moved := moved_to(product_id)) is not None:
            return redirect("admin:products_product_change", moved)
        if product is not None and request.user.has_perm("matching.view_match"):
            matches = product.matches.select_related("candidate").prefetch_related("candidate__images")
            context["matches"] = matches.order_by("-similarity_score")[:6]
            confirmed = product.matched_by.filter(review_status=Status.CONFIRMED).select_related("product")
            context["same_as"] = product.same_as_links.select_related("other")
            context["merges"] = product.merges.select_related("kept", "merged_by")
            context["proposals"] = proposals.proposals(product)
            context["confirmed_for"] = confirmed.prefetch_related("product__images")[:6]
        return super().change_view(request, object_id, form_url, context)

    def deletion_counts(self, rows: QuerySet[Product]) -> list[tuple[str, int]]:
        ids = rows.order_by().values("pk")
        matches = Match.objects.filter(Q(product__in=ids) | Q(candidate__in=ids)).count()
        return [*super().deletion_counts(rows), (str(Match._meta.verbose_name_plural), matches)]

    def history_records(self, object_id: int) -> HistoryRecords:
        of_verdicts = Match.history.filter(Q(product_id=object_id) | Q(candidate_id=object_id))
        of_decisions = Decision.history.filter(product_id=object_id)
        own = [*super().history_records(object_id), of_verdicts, of_decisions]
        merged = list(ProductMerge.objects.filter(kept=object_id).values_list("old_id", flat=True))
        if not merged:
            return own
        return [
            *own,
            Product.history.filter(id__in=merged),
            ProductImage.history.filter(product_id__in=merged),
            Match.history.filter(Q(product_id__in=merged) | Q(candidate_id__in=merged)),
            Decision.history.filter(product_id__in=merged),
        ]

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, set[str], Any]:
        """Matches are deleted with their product. That needs no permission of its own."""
        objects, counts, missing, protected = super().get_deleted_objects(objs, request)
        return objects, counts, set(missing) - {str(Match._meta.verbose_name)}, protected


@admin.register(Match)
class MatchAdmin(LongListAdmin, BulkDeleteAdmin, CatalogueHistoryAdmin, ExportAdmin):
    list_display = ("new_product", "candidate_product", "score", "verdict")
    list_display_links = None
    list_filter = (
        ("review_status", ChoicesRadioFilter),
        DecisionFilter,
        DeciderFilter,
        ScoreBandFilter,
        QueryCategoryFilter,
        VerdictDateFilter,
        ("feature_type", ChoicesRadioFilter),
    )
    list_filter_submit = True
    list_per_page = 25
    search_fields = ("product__sku", "product__name", "candidate__sku", "candidate__name")  # see get_search_results
    search_help_text = _("SKU or name of either product")
    sortable_by = ("score",)
    actions = ("confirm", "reject", "take_back", "export_csv", "export_xlsx", "delete_selected")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Match]:
        queryset: QuerySet[Match] = super().get_queryset(request)
        related = queryset.select_related("product", "candidate", "reviewer")
        shown = related.defer("product__description", "candidate__description")
        prefetched = shown.prefetch_related("product__images", "candidate__images")
        # A cell does not know the request, so each row says whether the user sees buttons.
        return prefetched.annotate(may_review=Value(self.has_change_permission(request)))

    def why_empty(self, request: HttpRequest) -> dict[str, Any]:
        return first_steps.why_no_matches(request)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Sort pending matches by score. Sort all others by age, for which there is an index."""
        is_pending = request.GET.get("review_status__exact") == Status.PENDING
        return ("-similarity_score",) if is_pending else ("-id",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Match], search_term: str
    ) -> tuple[QuerySet[Match], bool]:
        """Search both products' words. Tell the user if more products have them than are searched."""
        words = search_words(search_term)
        if not words:
            return queryset, False
        result = search_matches(queryset, words)
        if result.is_truncated:
            text = _("More than %d products have this in SKU or name. Only the newest are searched. Add a word.")
            messages.info(request, text % MAX_PRODUCTS)
        return result.matches, False

    @display(description=_("new product"))
    def new_product(self, match: Match) -> str:
        url = reverse("admin:matching_match_case", args=[match.product_id])
        return render_to_string("catalogmatch/match_product.html", {"product": match.product, "url": url})

    @display(description=_("candidate"))
    def candidate_product(self, match: Match) -> str:
        url = reverse("admin:products_product_change", args=[match.candidate_id])
        context = {"product": match.candidate, "url": url, "compared_with": match.product}
        return render_to_string("catalogmatch/match_product.html", context)

    @display(description=_("score"), ordering="similarity_score")
    def score(self, match: Match) -> str:
        probability = "" if match.probability is None else percent(match.probability)
        return render_to_string("catalogmatch/match_score.html", {"match": match, "probability": probability})

    @display(description=_("verdict"))
    def verdict(self, match: Match) -> str:
        return render_to_string("catalogmatch/verdict.html", {"match": match, "may_review": match.may_review})  # type: ignore[attr-defined]

    @admin.action(description=_("Confirm"), permissions=["change"])
    def confirm(self, request: HttpRequest, matches: QuerySet[Match]) -> None:
        self._review_all(request, matches, Status.CONFIRMED)

    @admin.action(description=_("Reject"), permissions=["change"])
    def reject(self, request: HttpRequest, matches: QuerySet[Match]) -> None:
        self._review_all(request, matches, Status.REJECTED)

    @admin.action(description=_("Undo the verdict"), permissions=["change"])
    def take_back(self, request: HttpRequest, matches: QuerySet[Match]) -> None:
        self._review_all(request, matches, Status.PENDING)

    def _review_all(self, request: HttpRequest, matches: QuerySet[Match], status: str) -> None:
        """Judge the selected matches, but not those that another reviewer has judged."""
        own = verdicts.changeable_by(matches, user_of(request))
        kept = matches.exclude(review_status=status).count() - own.exclude(review_status=status).count()
        stayed: list[str] = []
        count = verdicts.set_verdicts(own, status, user_of(request), stayed)
        for text in stayed[:MAX_MESSAGES]:
            messages.warning(request, text)
        text = ngettext("%d verdict was saved.", "%d verdicts were saved.", count) % count
        messages.success(request, text)
        if kept:
            text = ngettext(
                "%d match keeps the verdict of another reviewer. Open it to change it.",
                "%d matches keep the verdict of another reviewer. Open them to change it.",
                kept,
            )
            messages.warning(request, text % kept)

    def history_records(self, object_id: int) -> HistoryRecords:
        return [Match.history.filter(id=object_id)]

    def export_table(self, ids: Sequence[int]) -> ExportTable:
        return exporting.matches_table(ids)

    def longest_text(self, ids: Sequence[int]) -> int:
        return exporting.longest_note(ids)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the match on the review page, beside the other candidates."""
        match = self.get_object(request, object_id)
        if match is None:
            raise Http404
        return redirect("admin:matching_match_case", match.product_id)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("case/", view(review.next_case), name="matching_match_next"),
            path("case/ahead/", view(review.prefetch), name="matching_match_ahead"),
            path("case/hold/", view(review.renew_lease), name="matching_match_hold"),
            path("case/release/", view(review.release_leases), name="matching_match_release"),
            path("case/<int:product_id>/", view(review.case), name="matching_match_case"),
            path("case/filters/", view(review.save_filter), name="matching_match_save_filter"),
            path("case/<int:product_id>/undo/", view(review.undo), name="matching_match_undo"),
            path("case/<int:product_id>/decide/", view(review.decide), name="matching_match_decide"),
            path("case/image/<int:image_id>/", view(review.image), name="matching_match_image"),
            path("<int:match_id>/mark/", view(review.mark_evidence), name="matching_match_mark"),
            path("<int:match_id>/unmark/", view(review.unmark_evidence), name="matching_match_unmark"),
            path("<int:match_id>/verdict/", view(review.verdict), name="matching_match_verdict"),
            *super().get_urls(),
        ]
