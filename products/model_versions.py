"""Model versions: which one answers, their vectors of every image, and the switch from one to another.

A version is an encoder alone (or legacy features while it does not cover the catalogue), or a learned head over
encoders and legacy features. The vectors of a version are stored while the old one answers. The switch is one inserted
row, so every process follows it with its next search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils import timezone

from core.database.batches import iter_pk_batches
from gpu import heads
from gpu.encoders import selection
from gpu.encoders.selection import Selected
from gpu.heads import Head
from gpu.models import ModelSwitch, ModelVersion
from gpu.vectors import CLIP, HEAD, LEGACY_MODEL, Features, Kind
from products.models import Feature, ProductImage

ENCODER = ""  # the encoder that was switched to last, without a head
ENCODER_NAME = "encoder"  # what users call it
_FILL_BATCH = 500


class VersionError(Exception):
    """A version cannot be used as asked. The message is for the user."""


def in_use() -> Head | None:
    """Return the head that answers, or None for the encoder alone. Costs one or two short queries."""
    name = ModelSwitch.objects.order_by("-pk").values_list("version", flat=True).first()
    return heads.load(name) if name else None


@dataclass(frozen=True, slots=True)
class Version:
    """A version that can answer. ``encoder`` compares images that ``head`` cannot, or all of them without a head.

    ``is_forced``: only this encoder was asked for, even if parts of the catalogue lack its vectors.
    """

    head: Head | None
    encoder: Selected
    is_forced: bool = False

    @property
    def name(self) -> str:
        """Return the name of the head, or of the encoder without one."""
        return self.head.version if self.head is not None else self.encoder.name

    @property
    def sources(self) -> list[str]:
        """Return what loads the encoders that a query image needs."""
        if self.head is None or not self.head.encoders:
            return [self.encoder.source]
        known = selection.known()
        return [known[name].source for name in self.head.encoders if name in known]


def answering() -> Version:
    """Return the version that answers. Costs a few short queries."""
    return Version(*selection.answering())


def sources_in_use() -> list[str]:
    """Return what loads the encoders that a query image needs now."""
    return answering().sources


def resolve(version: str) -> Version:
    """Return a version by its name: a head, an encoder, or 'encoder' for the one that was switched to last.

    An encoder may also be named without its fingerprint or by its file. Raises VersionError if there is none.
    """
    if version in (ENCODER, ENCODER_NAME):
        return Version(None, selection.alone())
    if (head := heads.load(version)) is not None:
        return Version(head, selection.in_use())
    if (encoder := selection.find(version)) is not None:
        return Version(None, encoder, is_forced=True)
    raise VersionError(f"There is no version {version!r}. `manage.py list_models` lists them.")


def get(version: str) -> Head | None:
    """Return the head of this name, or None for an encoder alone. Raises VersionError for any other name."""
    return resolve(version).head


def head_rows(features: Iterable[Feature]) -> list[Feature]:
    """Return unsaved rows with the vectors of every stored head, for images whose features were just computed.

    Reads features that an image had before, because a worker computes only the missing ones. Call it in the
    transaction that stores ``features``, so that a head's vector always belongs to its image's newest features.
    """
    stored_heads = heads.load_all()
    if not stored_heads:
        return []
    by_image: dict[int, dict[tuple[str, str], Feature]] = {}
    for row in features:
        by_image.setdefault(row.image_id, {})[row.kind, row.model_name] = row
    for row in Feature.objects.filter(image__in=by_image, decoding=F("image__decoding")).exclude(kind=HEAD):
        by_image[row.image_id].setdefault((row.kind, row.model_name), row)
    return _rows(stored_heads, by_image.values())


def fill(head: Head, progress: Callable[[int], object] = lambda _: None) -> int:
    """Store the head's vectors of all images that have its parts and lack it. Return how many were stored.

    Can be stopped and called again. Calls ``progress(number of vectors)`` after each batch.
    """
    stored = 0
    for image_ids in iter_pk_batches(images_lacking(head), _FILL_BATCH):
        with transaction.atomic():
            # The lock keeps a worker from replacing features between the two queries.
            list(ProductImage.objects.select_for_update(no_key=True).filter(pk__in=image_ids).order_by("pk"))
            by_image: dict[int, dict[tuple[str, str], Feature]] = {}
            for row in Feature.objects.filter(image__in=image_ids).exclude(kind=HEAD):
                by_image.setdefault(row.image_id, {})[row.kind, row.model_name] = row
            rows = _rows([head], by_image.values())
            Feature.objects.bulk_create(rows, ignore_conflicts=True)
        stored += len(rows)
        progress(len(rows))
    return stored


def images_lacking(head: Head) -> QuerySet[ProductImage]:
    """Return the images that have all parts of a head but not its vector."""
    features = Feature.objects.filter(image=OuterRef("pk"))
    images = ProductImage.objects.exclude(Exists(features.filter(kind=HEAD, model_name=head.version)))
    for part in head.parts:
        images = images.filter(Exists(features.filter(kind=part.kind, model_name=part.model_name)))
    return images


def uncovered_count(version: Version) -> int:
    """Count the catalogue images that search would not find with this version. Images that failed do not count.

    Without a named head or encoder, legacy features find them all.
    """
    if version.head is None and not version.is_forced:
        return 0
    return _uncovered_count(HEAD if version.head is not None else CLIP, version.name)


def _uncovered_count(kind: Kind, name: str) -> int:
    features = Feature.objects.filter(image=OuterRef("pk"), kind=kind, model_name=name)
    catalogue = ProductImage.objects.filter(product__is_historical=True).exclude(state=ProductImage.State.FAILED)
    return catalogue.exclude(Exists(features)).count()


def switch(version: str, user: AbstractBaseUser | None = None) -> None:
    """Let another version answer from the next search on. Fills the vectors of a head first.

    Raises VersionError if there is no such version, or if it does not cover the catalogue.
    """
    found = resolve(version)
    head, encoder = found.head, found.encoder
    if head is not None:
        fill(head)
        _require_coverage(version, HEAD, head.version)
        _name_in_images(head.encoders)
        _record(version, user)
        fill(head)  # images that a worker stored during the switch, if it did not know this head yet
        return
    if not found.is_forced:
        _record(ENCODER, user)
        return
    if encoder.name not in selection.known():
        raise VersionError(
            f"No image is embedded with {encoder.name} yet. Set CLIP_MODEL to it and run `manage.py reindex`."
        )
    _require_coverage(encoder.name, CLIP, encoder.name)
    _name_in_images([encoder.name])
    with transaction.atomic():
        newest = ModelSwitch.objects.order_by("-pk").values_list("version", flat=True).first()
        if not newest:  # say which encoder answered so far, for ``rollback``
            _record(selection.alone().name, user)
        _record(encoder.name, user)


def _require_coverage(version: str, kind: Kind, name: str) -> None:
    if uncovered := _uncovered_count(kind, name):
        raise VersionError(
            f"{version} lacks the vectors of {uncovered:,} catalogue images, so search would not find them. "
            "Wait until all images are embedded with its models, or run `manage.py reindex --missing`."
        )


def _name_in_images(encoders: Sequence[str]) -> None:
    """Add encoders to ``embedded_with`` of images that have their vectors but do not name them."""
    for name in encoders:
        features = Feature.objects.filter(image=OuterRef("pk"), kind=CLIP, model_name=name)
        for value in list(ProductImage.objects.order_by().values_list("embedded_with", flat=True).distinct()):
            names = selection.names_in(value)
            if name not in names:
                others = [other for other in names if other != LEGACY_MODEL]
                images = ProductImage.objects.filter(Exists(features), embedded_with=value)
                together = selection.joined([*others, name])
                images.update(embedded_with=together if len(together) <= selection.MAX_NAMES_LENGTH else name)


def forget_encoder(name: str) -> None:
    """Forget an encoder whose vectors are about to be deleted, so that images get them again if it is wanted again."""
    for value in list(ProductImage.objects.order_by().values_list("embedded_with", flat=True).distinct()):
        if name in (names := selection.names_in(value)):
            others = selection.joined(other for other in names if other != name)
            ProductImage.objects.filter(embedded_with=value).update(embedded_with=others or LEGACY_MODEL)
    selection.forget(name)


def rollback(user: AbstractBaseUser | None = None) -> str:
    """Switch to the version that answered before. Return its name.

    Raises VersionError if there was none, or if it no longer exists.
    """
    before = previous()
    if before is None:
        raise VersionError("The model was never switched, so there is nothing to roll back.")
    switch(before, user)
    return before or ENCODER_NAME


def previous() -> str | None:
    """Return the version that a roll back switches to, or None if the model was never switched."""
    last = ModelSwitch.objects.order_by("-pk").values_list("version", flat=True).first()
    if last is None:
        return None
    before = ModelSwitch.objects.exclude(version=last).order_by("-pk").values_list("version", flat=True).first()
    return before or ENCODER


def add(head: Head, report: dict[str, object]) -> None:
    """Store a new head in the shadow, and delete versions that are no longer needed.

    Kept are the one in use, the one before it, and the new one. Does nothing if this head is stored already.
    """
    if heads.load(head.version) is not None:
        return
    with transaction.atomic():
        head.to_row(report).save()
        prune(keep=head.version)


def prune(keep: str = "") -> list[str]:
    """Delete all heads but the one in use, the one before it and ``keep``, with their vectors. Return their names."""
    used = dict.fromkeys(ModelSwitch.objects.order_by("-pk").values_list("version", flat=True))
    needed = {keep, *list(used)[:2]}
    names = [name for name in ModelVersion.objects.values_list("name", flat=True) if name not in needed]
    for name in names:
        rows = Feature.objects.filter(kind=HEAD, model_name=name)
        for feature_ids in iter_pk_batches(rows, 5000):
            Feature.objects.filter(pk__in=feature_ids)._raw_delete("default")
        ModelVersion.objects.filter(name=name).delete()
    return names


def _record(version: str, user: AbstractBaseUser | None) -> None:
    ModelSwitch.objects.create(version=version, switched_by_id=user.pk if user else None, switched_at=timezone.now())


def _rows(wanted: Sequence[Head], images: Iterable[dict[tuple[str, str], Feature]]) -> list[Feature]:
    """Return the heads' rows of images, each given with its other features by kind and model."""
    now = timezone.now()
    rows = []
    for by_model in images:
        stored = [row.to_features() for row in by_model.values() if not row.is_damaged]
        for head in wanted:
            features = head.features(stored)
            if features is not None:
                image = next(iter(by_model.values()))
                rows.append(
                    Feature(
                        image_id=image.image_id, product_id=image.product_id, decoding=image.decoding,
                        created_at=now, updated_at=now,
                        **Feature.columns(features),
                    )
                )  # fmt: skip
    return rows


def with_head(features: Sequence[Features], head: Head | None) -> list[Features]:
    """Return the features of one image, with the head's vector added if its parts are there."""
    added = head.features(features) if head is not None else None
    return [*features, *([added] if added is not None else [])]
