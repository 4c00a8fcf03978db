"""Matches are found by their verdict, with score or product; three narrower indexes go."""

from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("matching", "0008_confirmed_products"),
        ("products", "0008_queue_order"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="match",
            name="match_waiting",
        ),
        migrations.RemoveIndex(
            model_name="match",
            name="match_next_case",
        ),
        migrations.RemoveIndex(
            model_name="match",
            name="match_confirmed",
        ),
        migrations.AddIndex(
            model_name="match",
            index=models.Index(fields=["review_status", "-similarity_score"], name="match_verdict_score"),
        ),
        migrations.AddIndex(
            model_name="match",
            index=models.Index(fields=["review_status", "-product", "similarity_score"], name="match_verdict_product"),
        ),
    ]
