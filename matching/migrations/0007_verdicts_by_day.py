"""The next case is found by its score too; verdicts are found by day and reviewer."""

from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("matching", "0006_history_begins"),
        ("products", "0006_product_added"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="match",
            name="match_next_case",
        ),
        migrations.AddIndex(
            model_name="match",
            index=models.Index(
                condition=models.Q(("review_status", "pending")),
                fields=["-product", "similarity_score"],
                name="match_next_case",
            ),
        ),
        migrations.AddIndex(
            model_name="match",
            index=models.Index(
                condition=models.Q(("reviewed_at__isnull", False)),
                fields=["reviewed_at", "reviewer"],
                name="match_reviewed",
            ),
        ),
    ]
