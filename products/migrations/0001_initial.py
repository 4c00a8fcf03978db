"""Products, their pictures, which are the queue, and the features of pictures."""

import django.core.validators
import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.text
import django.db.models.lookups
from django.db import migrations, models

import products.models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
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
                        help_text="Historical products are the catalogue that new products are compared with.",
                        verbose_name="historical",
                    ),
                ),
                ("attributes", models.JSONField(blank=True, default=dict, verbose_name="attributes")),
                (
                    "unmatched_since",
                    models.DateTimeField(
                        blank=True,
                        editable=False,
                        help_text="A new product's features changed then and its matches have not been looked up since.",
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
            name="ProductImage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "file",
                    models.ImageField(max_length=200, upload_to=products.models.image_path, verbose_name="file"),
                ),
                (
                    "original_name",
                    models.CharField(blank=True, default="", max_length=255, verbose_name="original name"),
                ),
                ("sha256", models.CharField(max_length=64, verbose_name="SHA-256 of the uploaded file")),
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
                        help_text="The model of the best features it has: CLIP's name, the legacy version, or empty for none.",
                        max_length=200,
                        verbose_name="embedded with",
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
                "verbose_name": "picture",
                "verbose_name_plural": "pictures",
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
                        verbose_name="picture",
                    ),
                ),
            ],
            options={
                "verbose_name": "feature",
                "verbose_name_plural": "features",
                "db_table": "features",
            },
        ),
        migrations.AddIndex(
            model_name="productimage",
            index=models.Index(
                condition=models.Q(("state", "pending")), fields=["attempts", "id"], name="image_pending"
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
                            products.models.BlobLength("color_features"),
                            django.db.models.expressions.CombinedExpression(models.Value(4), "*", models.F("dim")),
                        ),
                        django.db.models.lookups.Exact(products.models.BlobLength("shape_features"), 0),
                        django.db.models.lookups.Exact(products.models.BlobLength("texture_features"), 0),
                    ),
                    models.Q(
                        ("dim", 256),
                        ("kind", "legacy"),
                        django.db.models.lookups.Exact(products.models.BlobLength("color_features"), 256),
                        django.db.models.lookups.Exact(products.models.BlobLength("shape_features"), 28),
                        django.db.models.lookups.Exact(products.models.BlobLength("texture_features"), 256),
                    ),
                    _connector="OR",
                ),
                name="feature_blob_lengths",
            ),
        ),
    ]
