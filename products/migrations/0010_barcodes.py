"""Store the barcodes of images, and which images were not looked at by the reader."""

import django.db.models.deletion
import django.db.models.functions.text
import django.db.models.lookups
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("products", "0009_preferences"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Barcode",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "number",
                    models.CharField(
                        help_text="A GTIN or ISBN with a check digit, 14 digits.", max_length=14, verbose_name="number"
                    ),
                ),
                ("removed_at", models.DateTimeField(blank=True, null=True, verbose_name="removed")),
            ],
            options={
                "verbose_name": "barcode",
                "verbose_name_plural": "barcodes",
                "db_table": "image_barcodes",
                "ordering": ("id",),
            },
        ),
        migrations.AddField(
            model_name="productimage",
            name="barcode_reader",
            field=models.PositiveSmallIntegerField(
                default=0, editable=False, verbose_name="version of the barcode reader"
            ),
        ),
        migrations.AddIndex(
            model_name="productimage",
            index=models.Index(fields=["barcode_reader", "id"], name="image_barcode_reader"),
        ),
        migrations.AddField(
            model_name="barcode",
            name="image",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="barcodes",
                to="products.productimage",
                verbose_name="image",
            ),
        ),
        migrations.AddField(
            model_name="barcode",
            name="removed_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
                verbose_name="removed by",
            ),
        ),
        migrations.AddIndex(
            model_name="barcode",
            index=models.Index(fields=["number"], name="barcode_number"),
        ),
        migrations.AddConstraint(
            model_name="barcode",
            constraint=models.UniqueConstraint(fields=("image", "number"), name="barcode_once_per_image"),
        ),
        migrations.AddConstraint(
            model_name="barcode",
            constraint=models.CheckConstraint(
                condition=django.db.models.lookups.Exact(
                    django.db.models.functions.text.Length(models.F("number")), 14
                ),
                name="barcode_number_length",
            ),
        ),
    ]
