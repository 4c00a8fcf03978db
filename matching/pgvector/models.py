"""The searchable form of every feature, kept beside it by triggers and filled by whoever searches next."""

from __future__ import annotations

from django.db import models

from products.models import Feature


class SearchVector(models.Model):
    """A feature's vector in half precision. Its column ``embedding halfvec`` is only ever used in SQL.

    A trigger writes the row without an embedding when a feature is written: like the pictures' state, the empty
    column is the queue. The database deletes the row with its feature.
    """

    feature = models.OneToOneField(Feature, on_delete=models.DO_NOTHING, primary_key=True, related_name="+")
    product_id = models.BigIntegerField()
    kind = models.CharField(max_length=10)
    model_name = models.CharField(max_length=200)
    dim = models.IntegerField(null=True)  # of the embedding; several can live beside each other
    unusable = models.BooleanField(default=False)

    class Meta:
        db_table = "search_vectors"

    def __str__(self) -> str:
        return f"search vector of feature {self.pk}"
