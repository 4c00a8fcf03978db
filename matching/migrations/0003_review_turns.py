"""Who has which case in front of them."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("matching", "0002_index_changes"),
        ("products", "0002_trace_pictures_and_hash_their_files"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ReviewTurn",
            fields=[
                (
                    "product",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="review_turn",
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
                "verbose_name": "review turn",
                "verbose_name_plural": "review turns",
                "db_table": "review_turns",
            },
        ),
    ]
