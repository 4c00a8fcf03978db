"""Products with a confirmed match are found by an index."""

from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("matching", "0007_verdicts_by_day"),
        ("products", "0008_queue_order"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddIndex(
            model_name="match",
            index=models.Index(
                condition=models.Q(("review_status", "confirmed")), fields=["product"], name="match_confirmed"
            ),
        ),
    ]
