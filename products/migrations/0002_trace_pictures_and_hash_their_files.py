"""Each picture knows the request that brought it and the hash of its stored file."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("products", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="productimage",
            name="file_sha256",
            field=models.CharField(
                blank=True,
                default="",
                help_text="By this a damaged file is found; pictures without it are decoded instead.",
                max_length=64,
                verbose_name="SHA-256 of the stored file",
            ),
        ),
        migrations.AddField(
            model_name="productimage",
            name="request_id",
            field=models.CharField(
                blank=True,
                default="",
                help_text="The request that brought it, so that the worker's log lines can be told apart.",
                max_length=64,
                verbose_name="request",
            ),
        ),
    ]
