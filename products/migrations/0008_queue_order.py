"""Pending pictures are found by how long they wait."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("products", "0007_imports"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="productimage",
            name="image_pending",
        ),
        migrations.AddIndex(
            model_name="productimage",
            index=models.Index(
                condition=models.Q(("state", "pending")), fields=["updated_at", "id"], name="image_pending_turn"
            ),
        ),
    ]
