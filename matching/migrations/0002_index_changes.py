"""The log of what changed in the catalogue, for the search index."""

from django.db import migrations, models


class Migration(migrations.Migration):
    # The triggers that write this table are installed after every migrate: see matching/index/changes.py.
    dependencies = [("matching", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="IndexChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("feature_id", models.BigIntegerField(null=True)),
                ("product_id", models.BigIntegerField()),
                ("kind", models.CharField(max_length=10)),
                ("model_name", models.CharField(max_length=200)),
                ("token", models.BigIntegerField()),
            ],
            options={"db_table": "index_changes"},
        ),
    ]
