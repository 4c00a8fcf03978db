"""Add decisions on cases, and make one of the verdicts on each case."""

from itertools import groupby

import django.db.models.deletion
import simple_history.models
from django.conf import settings
from django.db import migrations, models

BATCH = 500  # cases in memory at once


def make_decisions(apps, schema_editor):
    """Decide the cases that have a confirmed match, or no match that waits.

    In a case with a confirmed match, those that wait are settled with it.
    """
    matches = apps.get_model("matching", "Match").objects
    decision_model = apps.get_model("matching", "Decision")
    judged = matches.exclude(review_status="pending").order_by("product_id").values("product_id")
    last = 0
    while ids := list(judged.filter(product_id__gt=last).distinct().values_list("product_id", flat=True)[:BATCH]):
        last = ids[-1]
        columns = ("product_id", "id", "candidate_id", "review_status", "reviewer_id", "reviewed_at")
        rows = matches.filter(product_id__in=ids).order_by("product_id", "id").values(*columns)
        decisions = []
        for product_id, group in groupby(rows.iterator(), key=lambda row: row["product_id"]):
            group_rows = list(group)
            confirmed = [row for row in group_rows if row["review_status"] == "confirmed"]
            waiting = [row["id"] for row in group_rows if row["review_status"] == "pending"]
            if waiting and not confirmed:
                continue
            newest = max(confirmed or group_rows, key=lambda row: row["reviewed_at"])
            given = {name: newest[name] for name in ("reviewer_id", "reviewed_at")}
            decisions.append(
                decision_model(
                    product_id=product_id,
                    kind="same" if confirmed else "new",
                    candidates=sorted(row["candidate_id"] for row in confirmed),
                    reviewer_id=given["reviewer_id"],
                    decided_at=given["reviewed_at"],
                    settled=sorted([row["id"] for row in confirmed or group_rows] + waiting),
                )
            )
            if waiting:
                matches.filter(id__in=waiting).update(review_status="rejected", **given)
        decision_model.objects.bulk_create(decisions)
    if schema_editor.connection.vendor == "postgresql":
        # Check the foreign keys of the new rows now: a table with checks to come cannot be altered.
        schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")


class Migration(migrations.Migration):
    dependencies = [
        ("matching", "0003_model_jobs"),
        ("products", "0008_import_columns"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="match",
            name="candidate_image",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="products.productimage",
                verbose_name="compared image of the candidate",
            ),
        ),
        migrations.AddField(
            model_name="match",
            name="product_image",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="products.productimage",
                verbose_name="compared image",
            ),
        ),
        migrations.AlterField(
            model_name="historicalmatch",
            name="review_status",
            field=models.CharField(
                choices=[
                    ("pending", "pending"),
                    ("confirmed", "confirmed"),
                    ("variant", "variant"),
                    ("rejected", "rejected"),
                    ("unsure", "cannot tell"),
                ],
                default="pending",
                max_length=10,
                verbose_name="verdict",
            ),
        ),
        migrations.AlterField(
            model_name="match",
            name="review_status",
            field=models.CharField(
                choices=[
                    ("pending", "pending"),
                    ("confirmed", "confirmed"),
                    ("variant", "variant"),
                    ("rejected", "rejected"),
                    ("unsure", "cannot tell"),
                ],
                default="pending",
                max_length=10,
                verbose_name="verdict",
            ),
        ),
        migrations.CreateModel(
            name="HistoricalDecision",
            fields=[
                ("id", models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("same", "the same"),
                            ("variant", "a variant"),
                            ("new", "a new product"),
                            ("unsure", "cannot tell"),
                        ],
                        max_length=10,
                        verbose_name="decision",
                    ),
                ),
                (
                    "candidates",
                    models.JSONField(
                        default=list, help_text="The ids of the products that it is.", verbose_name="candidates"
                    ),
                ),
                (
                    "differs",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="The attribute in which a variant differs.",
                        max_length=200,
                        verbose_name="differs in",
                    ),
                ),
                ("reason", models.CharField(blank=True, default="", max_length=200, verbose_name="reason")),
                ("note", models.TextField(blank=True, default="", verbose_name="note")),
                ("history_id", models.BigAutoField(editable=False, primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                ("history_change_reason", models.CharField(max_length=100, null=True)),
                (
                    "history_type",
                    models.CharField(choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1),
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
                "verbose_name": "historical decision",
                "verbose_name_plural": "historical decisions",
                "db_table": "decision_history",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="Decision",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("same", "the same"),
                            ("variant", "a variant"),
                            ("new", "a new product"),
                            ("unsure", "cannot tell"),
                        ],
                        max_length=10,
                        verbose_name="decision",
                    ),
                ),
                (
                    "candidates",
                    models.JSONField(
                        default=list, help_text="The ids of the products that it is.", verbose_name="candidates"
                    ),
                ),
                (
                    "differs",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="The attribute in which a variant differs.",
                        max_length=200,
                        verbose_name="differs in",
                    ),
                ),
                ("reason", models.CharField(blank=True, default="", max_length=200, verbose_name="reason")),
                ("note", models.TextField(blank=True, default="", verbose_name="note")),
                ("decided_at", models.DateTimeField(verbose_name="decided")),
                (
                    "version",
                    models.CharField(
                        blank=True, default="", editable=False, max_length=32, verbose_name="version of the case"
                    ),
                ),
                ("shown", models.JSONField(default=list, editable=False, verbose_name="candidates at that time")),
                ("settled", models.JSONField(default=list, editable=False, verbose_name="settled matches")),
                (
                    "product",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="decision",
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
                "verbose_name": "decision",
                "verbose_name_plural": "decisions",
                "db_table": "decisions",
                "ordering": ("-decided_at", "-id"),
                "indexes": [models.Index(fields=["decided_at", "reviewer"], name="decision_by_day")],
            },
        ),
        migrations.RunPython(make_decisions, migrations.RunPython.noop),
    ]
