"""Search by words, by image, or by both in the admin (the page Ask). Nothing is stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from core.admin.pages import admin_page
from core.admin.requests import is_htmx, require_permissions
from gpu.encoders import selection
from gpu.encoders.registry import ClipUnavailableError, clip_status
from gpu.imaging.errors import ImageProcessingError
from gpu.text.files import TextUnavailableError, has_no_text_encoder
from matching import search, service
from matching.answers.waterfall import waterfall
from matching.answers.wording import answer_in_words, percent, strongest
from matching.index import SearchVectorError
from matching.preferences import default_limit, default_threshold
from matching.review import first_steps
from products.admin.filters import categories
from products.admin.upload import ImagesField
from products.queue.query_features import FeaturesPendingError

_NO_CLIP = gettext_lazy(
    "Words cannot be searched without a CLIP model. The page Device and model says what is missing."
)


CLOSEST = 3  # shown if no candidate reaches the threshold


class SearchByImageForm(forms.Form):
    text = forms.CharField(label=gettext_lazy("Words"), max_length=search.MAX_TEXT_LENGTH, required=False)
    images = ImagesField(label=gettext_lazy("Image"), multiple=False, required=False)
    image_weight = forms.FloatField(min_value=0, max_value=1, required=False, initial=search.DEFAULT_IMAGE_WEIGHT)
    threshold = forms.FloatField(min_value=0, max_value=100, initial=default_threshold)
    limit = forms.TypedChoiceField(
        label=gettext_lazy("At most"), choices=lambda: [(n, n) for n in sorted({5, 10, 20, 50, default_limit()})],
        coerce=int, initial=default_limit,
    )  # fmt: skip
    category = forms.CharField(max_length=200, required=False)

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if not self.errors and not values.get("text") and not values.get("images"):
            raise ValidationError(_("Write what you look for, or choose an image."), code="required")
        return values


@admin_page("ask/", name="ask")
def search_by_image(request: HttpRequest) -> HttpResponse:
    """Show the page, with the candidates of a posted image. Return only the candidates to htmx."""
    require_permissions(request, "matching.view_match")
    is_post = request.method == "POST"
    form = SearchByImageForm(request.POST, request.FILES) if is_post else SearchByImageForm()
    result, missed = _search(form) if is_post and form.is_valid() else None, None
    if result is not None:
        result, missed = _split(result, form.cleaned_data["threshold"])
    context: dict[str, Any] = {
        "form": form,
        "result": result,
        "missed": missed,
        **(_shown(result) if result is not None else {}),
        "nothing": first_steps.why_nothing_is_found(request),
        "no_words": has_no_text_encoder(selection.source_in_use()),
    }
    status = 422 if form.errors else 200
    if is_htmx(request):
        return TemplateResponse(request, "catalogmatch/search_results.html", context, status=status)
    context |= {
        **admin.site.each_context(request),
        "title": _("Ask"),
        "categories": categories(),
        "may_add": request.user.has_perm("products.add_product"),
    }
    return TemplateResponse(request, "catalogmatch/search_by_image.html", context, status=status)


def _split(result: service.SearchResult, threshold: float) -> tuple[service.SearchResult, float | None]:
    """Return the result with what reaches the threshold, and None.

    If nothing does, return the closest candidates and the threshold that they miss.
    """
    reaching = [candidate for candidate in result.candidates if candidate.score >= threshold]
    if reaching or not result.candidates:
        return replace(result, candidates=reaching), None
    return replace(result, candidates=result.candidates[:CLOSEST]), threshold


def _shown(result: service.SearchResult) -> dict[str, Any]:
    """Return the answer as a sentence, and what the page shows of each candidate."""
    shares = [(candidate.product, candidate.probability) for candidate in result.candidates]
    candidates = [
        {
            "image": candidate.image,
            "product": candidate.product,
            "score": candidate.score,
            "probability": "" if candidate.probability is None else percent(candidate.probability),
            "evidence": strongest(candidate.evidence),
            "bars": waterfall([item.as_json() for item in candidate.evidence], candidate.probability),
        }
        for candidate in result.candidates
    ]
    return {"answer": answer_in_words(result.answer, result.not_in_catalogue, shares), "candidates": candidates}


def _search(form: SearchByImageForm) -> service.SearchResult | None:
    options = dict(form.cleaned_data) | {"threshold": 0}  # the page holds back what is below the threshold
    options |= {"uploads": options.pop("images")[:1], "category": options["category"] or None}
    if options["image_weight"] is None:
        del options["image_weight"]
    try:
        return search.search(wait=settings.UPLOAD_WAIT_SECONDS, **options)
    except ImageProcessingError as error:
        form.add_error("images", ValidationError(error.message, code=error.code))
    except (TextUnavailableError, ClipUnavailableError) as error:
        text = str(error) if clip_status().available else _NO_CLIP
        form.add_error(None, ValidationError(text, code=error.code))
    except (FeaturesPendingError, SearchVectorError) as error:
        form.add_error(None, ValidationError(str(error), code=error.code))
    return None
