"""What each worker used and did over time, for the curves of the device page."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("gpu", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="WorkerSample",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("taken_at", models.DateTimeField(verbose_name="taken")),
                ("memory_gb", models.FloatField(null=True, verbose_name="memory of the process in GB")),
                ("vram_reserved_gb", models.FloatField(null=True, verbose_name="memory of the GPU reserved in GB")),
                (
                    "images_per_second",
                    models.FloatField(default=0, verbose_name="pictures per second since the sample before"),
                ),
                (
                    "worker",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="samples",
                        to="gpu.embeddingworker",
                        verbose_name="worker",
                    ),
                ),
            ],
            options={
                "verbose_name": "sample of a worker",
                "verbose_name_plural": "samples of workers",
                "db_table": "gpu_samples",
                "ordering": ("taken_at",),
                "indexes": [models.Index(fields=["taken_at"], name="sample_taken")],
            },
        ),
    ]
