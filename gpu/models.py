"""The processes that embed images, and the versions of models that search uses."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from core import clock

# A worker writes its row this often. It counts as gone after a few missed heartbeats.
HEARTBEAT_SECONDS = 10
LIVE_AFTER_HEARTBEAT = timedelta(seconds=45)
# A worker stores a sample this often. Samples are kept for a day.
SAMPLE_SECONDS = 60


class EmbeddingWorkerQuerySet(models.QuerySet["EmbeddingWorker"]):
    def live(self) -> EmbeddingWorkerQuerySet:
        """Return workers whose heartbeat is recent enough, latest first."""
        return self.filter(clock.within("heartbeat_at", LIVE_AFTER_HEARTBEAT)).order_by("-heartbeat_at")

    def models(self) -> list[str]:
        """Return the CLIP models of the live workers that can use theirs."""
        names = self.live().filter(clip_available=True).order_by("model_name").values_list("model_name", flat=True)
        return list(names.distinct())


class EmbeddingWorker(models.Model):
    name = models.CharField(_("name"), max_length=255, unique=True, help_text=_("Host and process number."))
    started_at = models.DateTimeField(_("started"))
    heartbeat_at = models.DateTimeField(_("last heartbeat"))
    device = models.CharField(_("device"), max_length=10)
    device_reason = models.CharField(_("why this device"), max_length=500, blank=True, default="")
    gpu_name = models.CharField(_("GPU"), max_length=200, blank=True, default="")
    vram_gb = models.FloatField(_("memory of the GPU in GB"), null=True, blank=True)
    torch_version = models.CharField(_("torch"), max_length=50, blank=True, default="")
    model_name = models.CharField(_("model"), max_length=200, blank=True, default="")
    backend = models.CharField(_("backend"), max_length=20, blank=True, default="")
    clip_available = models.BooleanField(_("CLIP available"), default=False)
    error = models.TextField(_("why CLIP is not available"), blank=True, default="")
    rates = models.JSONField(_("images per second of recent batches"), default=list, blank=True)
    vram_allocated_gb = models.FloatField(_("memory in use in GB"), null=True, blank=True)
    vram_reserved_gb = models.FloatField(_("memory reserved in GB"), null=True, blank=True)
    images_done = models.PositiveBigIntegerField(_("images embedded"), default=0)

    objects = EmbeddingWorkerQuerySet.as_manager()

    class Meta:
        db_table = "gpu_workers"
        verbose_name = _("embedding worker")
        verbose_name_plural = _("embedding workers")
        ordering = ("-heartbeat_at",)
        indexes = [
            # The live workers, for the status page and the API.
            models.Index(fields=["-heartbeat_at"], name="worker_heartbeat"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_live(self) -> bool:
        return not clock.is_over(self.heartbeat_at, LIVE_AFTER_HEARTBEAT)


class WorkerSample(models.Model):
    """Memory and rate of a worker at one moment, for the charts of the device page."""

    worker = models.ForeignKey(
        EmbeddingWorker, on_delete=models.CASCADE, related_name="samples", verbose_name=_("worker")
    )
    taken_at = models.DateTimeField(_("taken"))
    memory_gb = models.FloatField(_("memory of the process in GB"), null=True)
    vram_reserved_gb = models.FloatField(_("memory of the GPU reserved in GB"), null=True)
    images_per_second = models.FloatField(_("images per second since the previous sample"), default=0)

    class Meta:
        db_table = "gpu_samples"
        verbose_name = _("sample of a worker")
        verbose_name_plural = _("samples of workers")
        ordering = ("taken_at",)
        indexes = [
            # The charts of the device page, and deleting old samples.
            models.Index(fields=["taken_at"], name="sample_taken"),
        ]

    def __str__(self) -> str:
        return f"{self.worker} {self.taken_at:%H:%M}"


class ModelVersion(models.Model):
    """A learned head: what it is made of, its matrices, and how well it did when it was learned.

    Its rows in ``features`` have ``name`` as their model.
    """

    name = models.CharField(_("name"), max_length=200, unique=True)
    parts = models.JSONField(_("made of"), help_text=_("Kind, model, dimensions and weight of each part."))
    matrices = models.BinaryField(_("matrices"))
    dim = models.PositiveIntegerField(_("dimensions"))
    score_floor = models.FloatField(_("dot product of a score of 0"))
    report = models.JSONField(_("report"), default=dict, help_text=_("Figures of the cross-validation."))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        db_table = "model_versions"
        verbose_name = _("model version")
        verbose_name_plural = _("model versions")
        ordering = ("id",)

    def __str__(self) -> str:
        return self.name


class EncoderSource(models.Model):
    """Where an encoder that embedded images is loaded from. The oldest row is the one that the installation began with.

    Its rows in ``features`` have ``name`` as their model.
    """

    name = models.CharField(_("name"), max_length=200, unique=True)
    source = models.CharField(_("source"), max_length=1000, help_text=_("A hub name, a folder, or an ONNX file."))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        db_table = "encoder_sources"
        verbose_name = _("source of an encoder")
        verbose_name_plural = _("sources of encoders")
        ordering = ("id",)

    def __str__(self) -> str:
        return self.name


class ModelSwitch(models.Model):
    """One change of the version that answers. The newest row says which one does."""

    version = models.CharField(_("version"), max_length=200, help_text=_("A head, an encoder, or empty: no head."))
    switched_at = models.DateTimeField(_("switched"), default=timezone.now)
    switched_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+",
        verbose_name=_("switched by"),
    )  # fmt: skip

    class Meta:
        db_table = "model_switches"
        verbose_name = _("switch of the model")
        verbose_name_plural = _("switches of the model")
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.version} {self.switched_at:%Y-%m-%d %H:%M}"
