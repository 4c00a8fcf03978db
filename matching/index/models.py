"""The change log of the index. Triggers write it, the in-process engine reads it."""

from __future__ import annotations

from django.db import models


class IndexChange(models.Model):
    """A changed feature, or, without a feature, a product whose filter columns changed.

    Has no foreign keys, because a row outlives what it is about. ``token`` is random: by it a process notices that a
    rollback or a restored backup has replaced the log it had read.
    """

    feature_id = models.BigIntegerField(null=True)
    product_id = models.BigIntegerField()
    kind = models.CharField(max_length=10)
    model_name = models.CharField(max_length=200)
    token = models.BigIntegerField()

    class Meta:
        db_table = "index_changes"

    def __str__(self) -> str:
        return f"{self.pk}: " + (f"feature {self.feature_id}" if self.feature_id else f"product {self.product_id}")
