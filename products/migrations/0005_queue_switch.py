"""The switch that pauses the queue, and how many pictures were embedded on each day."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("products", "0004_history_begins"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="EmbeddingDay",
            fields=[
                ("day", models.DateField(primary_key=True, serialize=False, verbose_name="day")),
                ("pictures", models.PositiveBigIntegerField(default=0, verbose_name="pictures")),
            ],
            options={
                "verbose_name": "day of embedding",
                "verbose_name_plural": "days of embedding",
                "db_table": "embedding_days",
            },
        ),
        migrations.CreateModel(
            name="QueueSwitch",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, editable=False, primary_key=True, serialize=False)),
                ("paused", models.BooleanField(default=False, verbose_name="paused")),
                ("changed_at", models.DateTimeField(verbose_name="changed")),
                (
                    "changed_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="changed by",
                    ),
                ),
            ],
            options={
                "verbose_name": "queue switch",
                "verbose_name_plural": "queue switches",
                "db_table": "queue_switch",
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="queue_has_one_switch")],
            },
        ),
    ]
