"""The tables of the embedding workers."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    # A database that has all of these has this one, too. Older databases: core/schema.py.
    replaces = [
        ("gpu", "0001_initial"),
        ("gpu", "0002_worker_samples"),
    ]

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="EmbeddingWorker",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        help_text="Host and process number.", max_length=255, unique=True, verbose_name="name"
                    ),
                ),
                ("started_at", models.DateTimeField(verbose_name="started")),
                ("heartbeat_at", models.DateTimeField(verbose_name="last heartbeat")),
                ("device", models.CharField(max_length=10, verbose_name="device")),
                (
                    "device_reason",
                    models.CharField(blank=True, default="", max_length=500, verbose_name="why this device"),
                ),
                ("gpu_name", models.CharField(blank=True, default="", max_length=200, verbose_name="GPU")),
                ("vram_gb", models.FloatField(blank=True, null=True, verbose_name="memory of the GPU in GB")),
                ("torch_version", models.CharField(blank=True, default="", max_length=50, verbose_name="torch")),
                ("model_name", models.CharField(blank=True, default="", max_length=200, verbose_name="model")),
                ("backend", models.CharField(blank=True, default="", max_length=20, verbose_name="backend")),
                ("clip_available", models.BooleanField(default=False, verbose_name="CLIP available")),
                ("error", models.TextField(blank=True, default="", verbose_name="why CLIP is not available")),
                (
                    "rates",
                    models.JSONField(blank=True, default=list, verbose_name="images per second of recent batches"),
                ),
                ("vram_allocated_gb", models.FloatField(blank=True, null=True, verbose_name="memory in use in GB")),
                ("vram_reserved_gb", models.FloatField(blank=True, null=True, verbose_name="memory reserved in GB")),
                ("images_done", models.PositiveBigIntegerField(default=0, verbose_name="images embedded")),
            ],
            options={
                "verbose_name": "embedding worker",
                "verbose_name_plural": "embedding workers",
                "db_table": "gpu_workers",
                "ordering": ("-heartbeat_at",),
                "indexes": [models.Index(fields=["-heartbeat_at"], name="worker_heartbeat")],
            },
        ),
        migrations.CreateModel(
            name="WorkerSample",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("taken_at", models.DateTimeField(verbose_name="taken")),
                ("memory_gb", models.FloatField(null=True, verbose_name="memory of the process in GB")),
                ("vram_reserved_gb", models.FloatField(null=True, verbose_name="memory of the GPU reserved in GB")),
                (
                    "images_per_second",
                    models.FloatField(default=0, verbose_name="images per second since the previous sample"),
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
