"""API endpoints for the device and the model."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gpu.backends import choice
from gpu.monitoring.status import clip_info, gpu_status


class WorkerSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    device = serializers.ChoiceField(["cuda", "rocm", "mps", "cpu"])
    device_reason = serializers.CharField()
    gpu_name = serializers.CharField(allow_null=True)
    model_name = serializers.CharField()
    backend = serializers.CharField()
    clip_available = serializers.BooleanField()
    images_done = serializers.IntegerField()
    heartbeat_at = serializers.DateTimeField()


class GpuStatusSerializer(serializers.Serializer[Any]):
    available = serializers.BooleanField(help_text="Whether images are embedded on a GPU.")
    device = serializers.ChoiceField(["cuda", "rocm", "mps", "cpu"])
    gpu_name = serializers.CharField(allow_null=True)
    vram = serializers.FloatField(allow_null=True, help_text="Memory of the GPU in GB.")
    throughput = serializers.CharField(
        allow_null=True, help_text="10th to 90th percentile of images per second over recent batches."
    )
    first_run = serializers.BooleanField(help_text="True while no CLIP weights are cached.")
    clip_available = serializers.BooleanField()
    error = serializers.CharField(allow_null=True, help_text="Why CLIP is not available.")
    vram_allocated = serializers.FloatField(allow_null=True, help_text="GB in use by the workers.")
    vram_reserved = serializers.FloatField(allow_null=True, help_text="GB reserved by the workers.")
    workers = WorkerSerializer(many=True)


class ClipInfoSerializer(serializers.Serializer[Any]):
    available = serializers.BooleanField()
    model_name = serializers.CharField()
    embedding_dim = serializers.IntegerField(allow_null=True)
    device = serializers.ChoiceField(["cuda", "rocm", "mps", "cpu"])
    cache_size_mb = serializers.FloatField(help_text="Size of the model's files in MB; 0 before they are downloaded.")
    backend = serializers.ChoiceField(choice.BACKENDS, help_text="What runs the model, and how precisely.")


class GpuStatusView(APIView):
    permission_map = {"GET": "gpu.view_embeddingworker"}

    @extend_schema(operation_id="gpu_status", responses=GpuStatusSerializer)
    def get(self, request: Request) -> Response:
        """Return the device, its memory and speed, and whether CLIP is available."""
        return Response(GpuStatusSerializer(gpu_status()).data)


class ClipInfoView(APIView):
    permission_map = {"GET": "gpu.view_embeddingworker"}

    @extend_schema(operation_id="clip_info", responses=ClipInfoSerializer)
    def get(self, request: Request) -> Response:
        """Return the CLIP model in use."""
        return Response(ClipInfoSerializer(clip_info()).data)
