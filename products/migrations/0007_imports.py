"""Imports that a person follows on a page."""

import uuid

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("products", "0006_product_added"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Import",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("table_name", models.CharField(blank=True, default="", max_length=255, verbose_name="table")),
                ("archive_name", models.CharField(blank=True, default="", max_length=255, verbose_name="ZIP")),
                ("is_historical", models.BooleanField(default=False, verbose_name="historical")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("checking", "being checked"),
                            ("checked", "checked"),
                            ("running", "being imported"),
                            ("done", "imported"),
                            ("failed", "failed"),
                        ],
                        default="checking",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("columns", models.JSONField(default=list, verbose_name="columns")),
                ("total", models.PositiveIntegerField(null=True, verbose_name="rows")),
                ("counts", models.JSONField(default=dict, verbose_name="results so far")),
                ("error", models.TextField(blank=True, default="", verbose_name="error")),
                ("token", models.UUIDField(default=uuid.uuid4, verbose_name="claim")),
                ("beat_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="last sign of work")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                (
                    "person",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="person",
                    ),
                ),
            ],
            options={
                "verbose_name": "import",
                "verbose_name_plural": "imports",
                "db_table": "imports",
                "ordering": ("-created_at",),
            },
        ),
    ]
