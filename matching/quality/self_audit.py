"""Ask about altered copies of catalogue images, whose answers are known, and say when the answers get worse.

Each copy is searched twice: among the whole catalogue, where its product must be found, and with its product left out,
where no other product may be called the same.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from django.db.models import Max, Min, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from core import clock
from gpu.imaging.errors import ImageProcessingError
from matching import service
from matching.answers.answering import Answer
from matching.answers.figures import wilson_interval
from matching.answers.wording import percent
from matching.models import SelfAudit
from matching.quality.planted import altered_copy
from products import model_versions
from products.models import Product, ProductImage
from products.queue.query_features import extract_query_features

COUNT = 50  # planted products of one audit
FOUND_RANK = 5  # a copy counts as found if its product is among so many candidates
KEPT = 400  # audits; a year of nights
NIGHT_HOURS = range(1, 5)  # local time
ONCE_A_NIGHT = timedelta(hours=12)
COMPARED = 14  # earlier audits that the newest one is compared with
# Without earlier audits: what any catalogue should reach.
FOUND_AT_LEAST, ALARMS_AT_MOST = 0.8, 0.1


class SelfAuditError(Exception):
    """Nothing can be planted. The message says why."""


def run(count: int = COUNT, seed: int | None = None, progress: Callable[[], None] = lambda: None) -> SelfAudit:
    """Make a self-audit and store its result. Raises SelfAuditError if no catalogue product has a usable image."""
    audit = start(count, seed)
    while not step(audit):
        progress()
    if not audit.expected:
        audit.delete()
        raise SelfAuditError("No image file of the chosen catalogue products can be read. Run `manage.py doctor`.")
    return audit


def start(count: int = COUNT, seed: int | None = None) -> SelfAudit:
    """Choose catalogue products to ask about. Raises SelfAuditError if there are none."""
    chosen_seed = random.randrange(2**31) if seed is None else seed  # noqa: S311  # nosec B311: no secret
    products = _choose(count, random.Random(chosen_seed))  # noqa: S311  # nosec B311: no secret
    if not products:
        raise SelfAuditError("The catalogue has no product with an image that is ready. Add some, then try again.")
    _kind, model, _head = service.version_in_use()
    return SelfAudit.objects.create(
        model_name=model, expected=0, found=0, left_out=0, false_alarms=0, made_at=timezone.now(),
        report={"seed": chosen_seed, "waiting": products, "missed": [], "alarms": []},
    )  # fmt: skip


def step(audit: SelfAudit) -> bool:
    """Ask about the next product of an audit. Return whether the audit is done."""
    waiting = audit.report["waiting"]
    if waiting:
        _ask(audit, waiting.pop(0))
    audit.is_done = not waiting
    audit.save()
    if audit.is_done:
        SelfAudit.objects.filter(pk__lte=audit.pk - KEPT).delete()
    return audit.is_done


def go_on(seconds: float) -> bool:
    """Start the audit of this night if it is due, and go on with it for so long. Return whether it is done."""
    end = time.monotonic() + seconds
    audit = SelfAudit.objects.filter(clock.within("made_at", ONCE_A_NIGHT)).order_by("-pk").first()
    if audit is None:
        if timezone.localtime().hour not in NIGHT_HOURS:
            return True
        try:
            audit = start()
        except SelfAuditError:
            return True
    while not audit.is_done and not step(audit):
        if time.monotonic() > end:
            return False
    return True


def latest() -> SelfAudit | None:
    """Return the newest audit that is done and could ask about something."""
    return SelfAudit.objects.filter(is_done=True, expected__gt=0).order_by("-pk").first()


def problem() -> str:
    """Return what is wrong by the newest audit, or ""."""
    newest = latest()
    return "" if newest is None else problem_of(newest)


def problem_of(audit: SelfAudit) -> str:
    """Return what an audit says is wrong, or "". It is compared with the audits of the same version before it."""
    before = SelfAudit.objects.filter(pk__lt=audit.pk, is_done=True, expected__gt=0, model_name=audit.model_name)
    ids = list(before.order_by("-pk").values_list("pk", flat=True)[:COMPARED])
    sums = SelfAudit.objects.filter(pk__in=ids).aggregate(
        found=Sum("found"), expected=Sum("expected"), alarms=Sum("false_alarms"), left_out=Sum("left_out")
    )
    usual_found = sums["found"] / sums["expected"] if sums["expected"] else FOUND_AT_LEAST
    usual_alarms = sums["alarms"] / sums["left_out"] if sums["left_out"] else ALARMS_AT_MOST
    texts = []
    if wilson_interval(audit.found, audit.expected)[1] < usual_found:
        texts.append(
            _("Only %(found)d of %(expected)d altered copies of catalogue images were found; %(usual)s are usual.")
            % {"found": audit.found, "expected": audit.expected, "usual": percent(usual_found)}
        )
    if wilson_interval(audit.false_alarms, audit.left_out)[0] > usual_alarms:
        texts.append(
            _("%(alarms)d of %(left_out)d left-out products were called the same as another; %(usual)s are usual.")
            % {"alarms": audit.false_alarms, "left_out": audit.left_out, "usual": percent(usual_alarms)}
        )
    return " ".join(texts)


def _choose(count: int, chance: random.Random) -> list[int]:
    """Return ids of catalogue products with a ready image, drawn without reading the whole catalogue."""
    usable = Product.objects.filter(is_historical=True, images__state=ProductImage.State.READY)
    bounds = usable.aggregate(first=Min("pk"), last=Max("pk"))
    if bounds["first"] is None:
        return []
    found: dict[int, None] = {}
    for _try in range(4 * count):
        start_at = chance.randint(bounds["first"], bounds["last"])
        pk = usable.filter(pk__gte=start_at).order_by("pk").values_list("pk", flat=True).first()
        if pk is not None:
            found[pk] = None
        if len(found) >= count:
            break
    return list(found)


def _ask(audit: SelfAudit, product_id: int) -> None:
    """Plant a copy of one image of a product. A product without a readable image counts for nothing."""
    ready = ProductImage.objects.filter(product=product_id, product__is_historical=True, state="ready")
    images: Sequence[ProductImage] = list(ready.order_by("pk"))
    seed = audit.report["seed"]
    if not images:
        return  # deleted or taken out of the catalogue meanwhile
    image = images[(seed + product_id) % len(images)]
    used = model_versions.answering()
    try:
        computed = extract_query_features(altered_copy(image, seed), used.sources)
    except (FileNotFoundError, ImageProcessingError):
        return  # the doctor's part "media" says so
    features = model_versions.with_head(computed, used.head)
    result = service.search_features(features, used, 0, FOUND_RANK)
    audit.expected += 1
    if any(candidate.product.pk == product_id for candidate in result.candidates):
        audit.found += 1
    else:
        audit.report["missed"].append(product_id)
    without = service.search_features(features, used, 0, FOUND_RANK, without=[product_id])
    audit.left_out += 1
    if without.answer == Answer.SAME:
        audit.false_alarms += 1
        audit.report["alarms"].append(product_id)
