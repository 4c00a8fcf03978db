"""Record the sizes of each image's files, so that quotas need not look at the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import migrations, models

BATCH_SIZE = 1_000


def measure(apps: Any, _schema_editor: Any) -> None:
    """Read the sizes of the files that are there. A missing file has none."""
    images = apps.get_model("products", "ProductImage").objects.order_by("pk")
    last = 0
    while batch := list(images.filter(pk__gt=last).only("pk", "file")[:BATCH_SIZE]):
        for image in batch:
            name = Path(image.file.name)
            media = Path(settings.MEDIA_ROOT)
            image.file_bytes = size_of(media / name)
            image.thumbnail_bytes = size_of(media / "thumbnails" / name.parent.name / name.name)
            image.original_bytes = size_of(Path(settings.ORIGINALS_ROOT) / name.parent.name / name.stem)
        images.model.objects.bulk_update(batch, ["file_bytes", "thumbnail_bytes", "original_bytes"])
        last = batch[-1].pk


def size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


class Migration(migrations.Migration):
    dependencies = [("products", "0002_checksums")]

    operations = [
        *(
            migrations.AddField(
                "productimage", name, models.PositiveIntegerField(editable=False, null=True, verbose_name=label)
            )
            for name, label in (
                ("file_bytes", "size of the stored file"),
                ("thumbnail_bytes", "size of the thumbnail"),
                ("original_bytes", "size of the kept original"),
            )
        ),
        migrations.AddIndex(
            "productimage",
            models.Index(fields=["file_bytes", "thumbnail_bytes", "original_bytes"], name="image_bytes"),
        ),
        migrations.RunPython(measure, migrations.RunPython.noop),
    ]
