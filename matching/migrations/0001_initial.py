"""Matches with their verdicts."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("products", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Match",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("similarity_score", models.FloatField(verbose_name="score")),
                (
                    "feature_type",
                    models.CharField(
                        choices=[("clip", "CLIP"), ("legacy", "legacy")], max_length=10, verbose_name="feature type"
                    ),
                ),
                ("model_name", models.CharField(max_length=200, verbose_name="model")),
                ("rank", models.PositiveIntegerField(verbose_name="rank")),
                (
                    "review_status",
                    models.CharField(
                        choices=[("pending", "pending"), ("confirmed", "confirmed"), ("rejected", "rejected")],
                        default="pending",
                        max_length=10,
                        verbose_name="verdict",
                    ),
                ),
                ("reviewed_at", models.DateTimeField(blank=True, null=True, verbose_name="reviewed")),
                ("note", models.TextField(blank=True, default="", verbose_name="note")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="updated")),
                (
                    "candidate",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="matched_by",
                        to="products.product",
                        verbose_name="candidate",
                    ),
                ),
                (
                    "product",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="matches",
                        to="products.product",
                        verbose_name="product asked about",
                    ),
                ),
                (
                    "reviewer",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="reviewer",
                    ),
                ),
            ],
            options={
                "verbose_name": "match",
                "verbose_name_plural": "matches",
                "db_table": "matches",
                "ordering": ("product", "rank", "id"),
                "indexes": [
                    models.Index(
                        condition=models.Q(("review_status", "pending")),
                        fields=["-similarity_score"],
                        name="match_waiting",
                    ),
                    models.Index(fields=["review_status", "-id"], name="match_by_verdict"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("product", "candidate"), name="match_once_per_pair"),
                    models.CheckConstraint(
                        condition=models.Q(("similarity_score__gte", 0), ("similarity_score__lte", 100)),
                        name="match_score_0_to_100",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("product", models.F("candidate")), _negated=True),
                        name="match_not_with_itself",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("review_status", "pending"), ("reviewed_at__isnull", True)),
                            models.Q(
                                models.Q(("review_status", "pending"), _negated=True), ("reviewed_at__isnull", False)
                            ),
                            _connector="OR",
                        ),
                        name="match_verdict_has_a_time",
                    ),
                ],
            },
        ),
    ]
