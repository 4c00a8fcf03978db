"""Checksums of features and thumbnails. `verify --fix` computes those of older rows."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("products", "0001_squashed_0009_deletions"),
    ]

    operations = [
        migrations.AddField(
            model_name="feature",
            name="checksum",
            field=models.BigIntegerField(
                editable=False,
                help_text="Detects damaged features. `manage.py verify --fix` computes it where it is missing.",
                null=True,
                verbose_name="checksum",
            ),
        ),
        migrations.AddField(
            model_name="productimage",
            name="thumbnail_sha256",
            field=models.CharField(
                blank=True,
                default="",
                help_text="Detects a damaged thumbnail. `manage.py verify --fix` computes it where it is missing.",
                max_length=64,
                verbose_name="SHA-256 of the thumbnail",
            ),
        ),
    ]
