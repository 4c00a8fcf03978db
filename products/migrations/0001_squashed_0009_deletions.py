"""The tables of the catalogue, its queue, its jobs and their history."""

import uuid

import django.core.validators
import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.text
import django.db.models.lookups
import django.utils.timezone
import simple_history.models
from django.conf import settings
from django.db import migrations, models

import products.models.catalogue


class Migration(migrations.Migration):
    initial = True

    # A database that has all of these has this one, too. Older databases: core/schema.py.
    replaces = [
        ("products", "0001_initial"),
        ("products", "0002_trace_pictures_and_hash_their_files"),
        ("products", "0003_history"),
        ("products", "0004_history_begins"),
        ("products", "0005_queue_switch"),
        ("products", "0006_product_added"),
        ("products", "0007_imports"),
        ("products", "0008_queue_order"),
        ("products", "0009_deletions"),
    ]

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="EmbeddingDay",
            fields=[
                ("day", models.DateField(primary_key=True, serialize=False, verbose_name="day")),
                ("pictures", models.PositiveBigIntegerField(default=0, verbose_name="images")),
            ],
            options={
                "verbose_name": "day of embedding",
                "verbose_name_plural": "days of embedding",
                "db_table": "embedding_days",
            },
        ),
        migrations.CreateModel(
            name="Deletion",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("error", models.TextField(blank=True, default="", verbose_name="error")),
                ("token", models.UUIDField(default=uuid.uuid4, verbose_name="claim")),
                (
                    "heartbeat_at",
                    models.DateTimeField(
                        db_column="beat_at", default=django.utils.timezone.now, verbose_name="last heartbeat"
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                ("label", models.CharField(max_length=100, verbose_name="model")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("running", "running"),
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
                    "user",
                    models.ForeignKey(
                        db_column="person_id",
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
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
        migrations.CreateModel(
            name="HistoricalProduct",
            fields=[
                ("id", models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name="ID")),
                ("sku", models.CharField(blank=True, default="", max_length=200, verbose_name="SKU")),
                ("name", models.CharField(blank=True, default="", max_length=500, verbose_name="name")),
                ("category", models.CharField(blank=True, default="", max_length=200, verbose_name="category")),
                ("description", models.TextField(blank=True, default="", verbose_name="description")),
                (
                    "is_historical",
                    models.BooleanField(
                        default=False,
                        help_text="New products are compared with the historical products.",
                        verbose_name="historical",
                    ),
                ),
                ("attributes", models.JSONField(blank=True, default=dict, verbose_name="attributes")),
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
            ],
            options={
                "verbose_name": "historical product",
                "verbose_name_plural": "historical products",
                "db_table": "product_history",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="Import",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("error", models.TextField(blank=True, default="", verbose_name="error")),
                ("token", models.UUIDField(default=uuid.uuid4, verbose_name="claim")),
                (
                    "heartbeat_at",
                    models.DateTimeField(
                        db_column="beat_at", default=django.utils.timezone.now, verbose_name="last heartbeat"
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
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
                (
                    "user",
                    models.ForeignKey(
                        db_column="person_id",
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
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
        migrations.CreateModel(
            name="Product",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sku", models.CharField(blank=True, default="", max_length=200, verbose_name="SKU")),
                ("name", models.CharField(blank=True, default="", max_length=500, verbose_name="name")),
                ("category", models.CharField(blank=True, default="", max_length=200, verbose_name="category")),
                ("description", models.TextField(blank=True, default="", verbose_name="description")),
                (
                    "is_historical",
                    models.BooleanField(
                        default=False,
                        help_text="New products are compared with the historical products.",
                        verbose_name="historical",
                    ),
                ),
                ("attributes", models.JSONField(blank=True, default=dict, verbose_name="attributes")),
                (
                    "unmatched_since",
                    models.DateTimeField(
                        blank=True,
                        editable=False,
                        help_text="A new product's features have changed since its last matching.",
                        null=True,
                        verbose_name="unmatched since",
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="updated")),
            ],
            options={
                "verbose_name": "product",
                "verbose_name_plural": "products",
                "db_table": "products",
                "ordering": ("-id",),
                "indexes": [
                    models.Index(fields=["is_historical", "category", "-id"], name="product_list"),
                    models.Index(fields=["created_at"], name="product_added"),
                    models.Index(fields=["category", "-id"], name="product_category"),
                    models.Index(
                        condition=models.Q(("unmatched_since__isnull", False)),
                        fields=["unmatched_since"],
                        name="product_unmatched",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("sku", ""), _negated=True),
                        fields=("sku",),
                        name="product_sku_unique_where_given",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="HistoricalProductImage",
            fields=[
                ("id", models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name="ID")),
                (
                    "original_name",
                    models.CharField(blank=True, default="", max_length=255, verbose_name="original name"),
                ),
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
                        verbose_name="product",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical image",
                "verbose_name_plural": "historical images",
                "db_table": "product_image_history",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="ProductImage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "file",
                    models.ImageField(
                        max_length=200, upload_to=products.models.catalogue.image_path, verbose_name="file"
                    ),
                ),
                (
                    "original_name",
                    models.CharField(blank=True, default="", max_length=255, verbose_name="original name"),
                ),
                ("sha256", models.CharField(max_length=64, verbose_name="SHA-256 of the uploaded file")),
                (
                    "file_sha256",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Detects a damaged file. Images without it are decoded instead.",
                        max_length=64,
                        verbose_name="SHA-256 of the stored file",
                    ),
                ),
                ("width", models.PositiveIntegerField(verbose_name="width")),
                ("height", models.PositiveIntegerField(verbose_name="height")),
                ("position", models.PositiveIntegerField(default=0, verbose_name="position")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "pending"),
                            ("claimed", "claimed"),
                            ("ready", "ready"),
                            ("failed", "failed"),
                        ],
                        default="pending",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("error_code", models.CharField(blank=True, default="", max_length=40, verbose_name="error code")),
                ("error_message", models.CharField(blank=True, default="", max_length=500, verbose_name="error")),
                ("attempts", models.PositiveSmallIntegerField(default=0, verbose_name="attempts")),
                ("claim_token", models.UUIDField(blank=True, null=True, verbose_name="claim")),
                ("claimed_at", models.DateTimeField(blank=True, null=True, verbose_name="claimed at")),
                (
                    "embedded_with",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="The model of its best features: the CLIP model, the legacy version, or empty.",
                        max_length=200,
                        verbose_name="embedded with",
                    ),
                ),
                (
                    "request_id",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="The id of the upload's request, which the worker's log lines repeat.",
                        max_length=64,
                        verbose_name="request",
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="updated")),
                (
                    "product",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="images",
                        to="products.product",
                        verbose_name="product",
                    ),
                ),
            ],
            options={
                "verbose_name": "image",
                "verbose_name_plural": "images",
                "db_table": "product_images",
                "ordering": ("product", "position", "id"),
            },
        ),
        migrations.CreateModel(
            name="Feature",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[("clip", "CLIP"), ("legacy", "legacy")], max_length=10, verbose_name="kind"
                    ),
                ),
                ("model_name", models.CharField(max_length=200, verbose_name="model")),
                (
                    "dim",
                    models.PositiveIntegerField(
                        validators=[django.core.validators.MinValueValidator(1)], verbose_name="dimensions"
                    ),
                ),
                ("color_features", models.BinaryField(verbose_name="colour features or embedding")),
                ("shape_features", models.BinaryField(default=bytes, verbose_name="shape features")),
                ("texture_features", models.BinaryField(default=bytes, verbose_name="texture features")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="updated")),
                (
                    "product",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="features",
                        to="products.product",
                        verbose_name="product",
                    ),
                ),
                (
                    "image",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="features",
                        to="products.productimage",
                        verbose_name="image",
                    ),
                ),
            ],
            options={
                "verbose_name": "feature",
                "verbose_name_plural": "features",
                "db_table": "features",
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
            },
        ),
        migrations.AddIndex(
            model_name="productimage",
            index=models.Index(
                condition=models.Q(("state", "pending")), fields=["updated_at", "id"], name="image_pending_turn"
            ),
        ),
        migrations.AddIndex(
            model_name="productimage",
            index=models.Index(condition=models.Q(("state", "claimed")), fields=["claimed_at"], name="image_claimed"),
        ),
        migrations.AddIndex(
            model_name="productimage",
            index=models.Index(condition=models.Q(("state", "failed")), fields=["id"], name="image_failed"),
        ),
        migrations.AddIndex(
            model_name="productimage",
            index=models.Index(fields=["embedded_with", "state"], name="image_embedded_with"),
        ),
        migrations.AddIndex(
            model_name="productimage",
            index=models.Index(fields=["sha256"], name="image_sha256"),
        ),
        migrations.AddConstraint(
            model_name="productimage",
            constraint=models.UniqueConstraint(fields=("product", "sha256"), name="image_once_per_product"),
        ),
        migrations.AddConstraint(
            model_name="productimage",
            constraint=models.CheckConstraint(
                condition=django.db.models.lookups.Exact(
                    django.db.models.functions.text.Length(models.F("sha256")), 64
                ),
                name="image_sha256_length",
            ),
        ),
        migrations.AddConstraint(
            model_name="productimage",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("claim_token__isnull", False), ("claimed_at__isnull", False), ("state", "claimed")),
                    models.Q(
                        models.Q(("state", "claimed"), _negated=True),
                        ("claim_token__isnull", True),
                        ("claimed_at__isnull", True),
                    ),
                    _connector="OR",
                ),
                name="image_claim_belongs_to_claimed",
            ),
        ),
        migrations.AddIndex(
            model_name="feature",
            index=models.Index(fields=["kind", "model_name", "id"], name="feature_model"),
        ),
        migrations.AddConstraint(
            model_name="feature",
            constraint=models.UniqueConstraint(fields=("image", "kind", "model_name"), name="feature_once_per_model"),
        ),
        migrations.AddConstraint(
            model_name="feature",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("kind", "clip"),
                        django.db.models.lookups.GreaterThan(models.F("dim"), 0),
                        django.db.models.lookups.Exact(
                            products.models.catalogue.BlobLength("color_features"),
                            django.db.models.expressions.CombinedExpression(models.Value(4), "*", models.F("dim")),
                        ),
                        django.db.models.lookups.Exact(products.models.catalogue.BlobLength("shape_features"), 0),
                        django.db.models.lookups.Exact(products.models.catalogue.BlobLength("texture_features"), 0),
                    ),
                    models.Q(
                        ("dim", 256),
                        ("kind", "legacy"),
                        django.db.models.lookups.Exact(products.models.catalogue.BlobLength("color_features"), 256),
                        django.db.models.lookups.Exact(products.models.catalogue.BlobLength("shape_features"), 28),
                        django.db.models.lookups.Exact(products.models.catalogue.BlobLength("texture_features"), 256),
                    ),
                    _connector="OR",
                ),
                name="feature_blob_lengths",
            ),
        ),
        migrations.AddConstraint(
            model_name="queueswitch",
            constraint=models.CheckConstraint(condition=models.Q(("id", 1)), name="queue_has_one_switch"),
        ),
    ]
