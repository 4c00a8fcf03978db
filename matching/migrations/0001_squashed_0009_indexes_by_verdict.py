"""The tables of matches, their history, review leases and the log of the search index."""

import django.db.models.deletion
import simple_history.models
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    # A database that has all of these has this one, too. Older databases: core/schema.py.
    replaces = [
        ("matching", "0001_initial"),
        ("matching", "0002_index_changes"),
        ("matching", "0003_review_turns"),
        ("matching", "0004_next_case"),
        ("matching", "0005_history"),
        ("matching", "0006_history_begins"),
        ("matching", "0007_verdicts_by_day"),
        ("matching", "0008_confirmed_products"),
        ("matching", "0009_indexes_by_verdict"),
    ]

    dependencies = [
        ("products", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="IndexChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("feature_id", models.BigIntegerField(null=True)),
                ("product_id", models.BigIntegerField()),
                ("kind", models.CharField(max_length=10)),
                ("model_name", models.CharField(max_length=200)),
                ("token", models.BigIntegerField()),
            ],
            options={
                "db_table": "index_changes",
            },
        ),
        migrations.CreateModel(
            name="HistoricalMatch",
            fields=[
                ("id", models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name="ID")),
                ("similarity_score", models.FloatField(verbose_name="score")),
                (
                    "review_status",
                    models.CharField(
                        choices=[("pending", "pending"), ("confirmed", "confirmed"), ("rejected", "rejected")],
                        default="pending",
                        max_length=10,
                        verbose_name="verdict",
                    ),
                ),
                ("note", models.TextField(blank=True, default="", verbose_name="note")),
                ("history_id", models.BigAutoField(editable=False, primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                ("history_change_reason", models.CharField(max_length=100, null=True)),
                (
                    "history_type",
                    models.CharField(choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1),
                ),
                (
                    "candidate",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="products.product",
                        verbose_name="candidate",
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "product",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="products.product",
                        verbose_name="new product",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical match",
                "verbose_name_plural": "historical matches",
                "db_table": "match_history",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="ReviewLease",
            fields=[
                (
                    "product",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="review_lease",
                        serialize=False,
                        to="products.product",
                        verbose_name="product",
                    ),
                ),
                ("taken_at", models.DateTimeField(verbose_name="taken")),
                (
                    "reviewer",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="reviewer",
                    ),
                ),
            ],
            options={
                "verbose_name": "review lease",
                "verbose_name_plural": "review leases",
                "db_table": "review_turns",
            },
        ),
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
                        verbose_name="new product",
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
                    models.Index(fields=["review_status", "-similarity_score"], name="match_verdict_score"),
                    models.Index(
                        fields=["review_status", "-product", "similarity_score"], name="match_verdict_product"
                    ),
                    models.Index(
                        condition=models.Q(("reviewed_at__isnull", False)),
                        fields=["reviewed_at", "reviewer"],
                        name="match_reviewed",
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
