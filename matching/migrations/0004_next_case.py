"""The next case of a review is found by an index."""

from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("matching", "0003_review_turns"),
        ("products", "0002_trace_pictures_and_hash_their_files"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddIndex(
            model_name="match",
            index=models.Index(
                condition=models.Q(("review_status", "pending")), fields=["-product"], name="match_next_case"
            ),
        ),
    ]
