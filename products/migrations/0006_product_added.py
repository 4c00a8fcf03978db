"""Products are found by the day on which they were added."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("products", "0005_queue_switch"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="product",
            index=models.Index(fields=["created_at"], name="product_added"),
        ),
    ]
