"""Deletions that a person follows on a page, and their steps."""

import uuid

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("products", "0008_queue_order"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Deletion",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("error", models.TextField(blank=True, default="", verbose_name="error")),
                ("token", models.UUIDField(default=uuid.uuid4, verbose_name="claim")),
                ("beat_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="last sign of work")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                ("label", models.CharField(max_length=100, verbose_name="model")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("running", "at work"),
                            ("done", "done"),
                            ("stopped", "stopped"),
                            ("failed", "failed"),
                        ],
                        default="running",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("total", models.PositiveIntegerField(verbose_name="rows")),
                ("done", models.PositiveIntegerField(default=0, verbose_name="rows so far")),
                ("counts", models.JSONField(default=dict, verbose_name="deleted so far")),
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
                "verbose_name": "deletion",
                "verbose_name_plural": "deletions",
                "db_table": "deletions",
                "ordering": ("-created_at",),
            },
        ),
        migrations.CreateModel(
            name="DeletionStep",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("ids", models.JSONField(verbose_name="rows")),
                (
                    "deletion",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="steps",
                        to="products.deletion",
                        verbose_name="deletion",
                    ),
                ),
            ],
            options={
                "verbose_name": "step of a deletion",
                "verbose_name_plural": "steps of a deletion",
                "db_table": "deletion_steps",
            },
        ),
    ]
