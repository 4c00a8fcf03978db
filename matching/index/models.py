"""The log of what changed in the catalogue, written by database triggers and read by the in-process engine."""

from __future__ import annotations

from django.db import models


class IndexChange(models.Model):
    """One changed feature, or (without a feature) a product whose filtered columns changed.

    No foreign keys: a row outlives what it tells of. ``token`` is random, so that a process which has read up to
    a row can tell whether it still looks at the same history after a rollback or a restored backup.
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
