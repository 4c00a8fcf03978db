"""Images of an earlier decoding: reindex makes them again from their originals, and never loses one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gpu.images import DECODING, decode
from products.images import originals
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Feature, ProductImage
from products.queue.embed import embed_pending
from tests.gpu.imaging.swatches import COLOURS, DISPLAY_P3, card, difference, file_of, in_space
from tests.helpers.commands import run
from tests.helpers.files import files_in
from tests.helpers.sample_images import as_file, jpeg

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def keep_originals(settings: Any, tmp_path: Path) -> None:
    settings.KEEP_ORIGINALS, settings.ORIGINALS_ROOT = True, tmp_path / "originals"


def stored_before(data: bytes, shown: Image.Image) -> ProductImage:
    """Return an embedded image whose stored file an earlier version made, with its colours as ``shown``."""
    product = add_product([Upload(data, "photo.jpg")], is_historical=True).product
    image = product.images.get()
    derivative = as_file(shown, quality=92, subsampling=0)
    Path(image.file.path).write_bytes(derivative)
    ProductImage.objects.filter(pk=image.pk).update(state="pending", claim_token=None, claimed_at=None)
    embed_pending(recompute=True)
    ProductImage.objects.filter(pk=image.pk).update(decoding=0, file_sha256="0" * 64)
    Feature.objects.filter(image=image).update(decoding=0)
    return ProductImage.objects.get(pk=image.pk)


@pytest.fixture
def wide_gamut() -> ProductImage:
    stored = in_space(DISPLAY_P3, card())
    return stored_before(file_of(DISPLAY_P3, stored, "JPEG"), stored)


def shown(image: ProductImage) -> Image.Image:
    return decode(Path(image.file.path))


def test_reindex_makes_an_image_again_and_embeds_it(wide_gamut: ProductImage, media: Path) -> None:
    old = Feature.objects.get(image=wide_gamut)
    assert difference(shown(wide_gamut), COLOURS) > 20
    ran = run("reindex")
    assert (ran.code, "Made 1 images again" in ran.out) == (0, True)
    image = ProductImage.objects.get(pk=wide_gamut.pk)
    assert difference(shown(image), COLOURS) <= 8
    assert (image.state, image.decoding) == ("ready", DECODING)
    # The address is new, because browsers keep the old one. Nothing of it is left.
    assert image.file.name != wide_gamut.file.name
    assert len(files_in(media)) == 2
    assert originals.original_path(str(image.file.name)).exists()
    new = Feature.objects.get(image=image)
    assert (new.pk, new.decoding) == (old.pk, DECODING)
    assert bytes(new.color_features) != bytes(old.color_features)
    assert "Made" not in run("reindex").out


def test_image_that_looks_the_same_keeps_its_file_and_features(media: Path) -> None:
    image = stored_before(jpeg(1), decode(jpeg(1)))
    ProductImage.objects.update(file_sha256=_sha256_of_today(image))
    before = Feature.objects.get(image=image)
    ran = run("reindex")
    assert "Made 0 images again from their originals. 1 look the same." in ran.out
    assert "Embedded 0 images" in ran.out
    image = ProductImage.objects.get(pk=image.pk)
    assert image.decoding == DECODING
    after = Feature.objects.get(image=image)
    assert (after.decoding, after.updated_at) == (DECODING, before.updated_at)


def _sha256_of_today(image: ProductImage) -> str:
    import hashlib

    from products.images.cleaning import clean_image

    data = originals.original_path(str(image.file.name)).read_bytes()
    return hashlib.sha256(clean_image(Upload(data)).jpeg).hexdigest()


def test_image_without_an_original_stays_and_is_counted(wide_gamut: ProductImage) -> None:
    originals.delete_original(str(wide_gamut.file.name))
    ProductImage.objects.update(original_bytes=0)
    before = Path(wide_gamut.file.path).read_bytes()
    ran = run("reindex")
    assert "1 images of an earlier version have no original and stay as they are." in ran.out
    image = ProductImage.objects.get(pk=wide_gamut.pk)
    assert (image.decoding, Path(image.file.path).read_bytes()) == (0, before)
    assert "1 images were decoded by an earlier version" in run("doctor").out


def test_damaged_or_refused_original_changes_nothing(wide_gamut: ProductImage) -> None:
    path = originals.original_path(str(wide_gamut.file.name))
    path.write_bytes(b"rotten")
    before = Path(wide_gamut.file.path).read_bytes()
    ran = run("reindex")
    assert (ran.code, f"image {wide_gamut.pk} was not made again: its original is not" in ran.err) == (0, True)
    image = ProductImage.objects.get(pk=wide_gamut.pk)
    assert (image.state, image.decoding, Path(image.file.path).read_bytes()) == ("ready", 0, before)
    path.unlink()
    assert "its original cannot be read" in run("reindex").err


def test_features_of_other_models_of_the_old_pixels_are_deleted(wide_gamut: ProductImage) -> None:
    row = Feature.objects.get(image=wide_gamut)
    row.pk, row.model_name = None, "legacy-0"
    row.save()
    assert run("reindex").code == 0
    assert list(Feature.objects.values_list("decoding", flat=True)) == [DECODING]


def test_verify_makes_a_damaged_image_again_by_the_new_decoding(wide_gamut: ProductImage) -> None:
    assert run("verify", "--fix").code == 0
    image = ProductImage.objects.get(pk=wide_gamut.pk)
    assert (image.decoding, difference(Image.open(io.BytesIO(Path(image.file.path).read_bytes())), COLOURS) <= 8) == (
        DECODING,
        True,
    )
    assert "Embedded 1 images" in run("reindex").out
    assert Feature.objects.get().decoding == DECODING
