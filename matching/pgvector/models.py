"""The search vector of each feature. Triggers add the row, the next search fills it."""

from __future__ import annotations

from django.db import models

from products.models import Feature


class SearchVector(models.Model):
    """A feature's vector in half precision.

    Its column ``embedding halfvec`` is used only in SQL. A trigger adds the row without an embedding when a feature is
    written. Rows with an empty embedding are the queue, as the state of images is. The database deletes the row with
    its feature.
    """

    feature = models.OneToOneField(Feature, on_delete=models.DO_NOTHING, primary_key=True, related_name="+")
    product_id = models.BigIntegerField()
    kind = models.CharField(max_length=10)
    model_name = models.CharField(max_length=200)
    dim = models.IntegerField(null=True)  # of the embedding; rows of different lengths can coexist
    unusable = models.BooleanField(default=False)

    class Meta:
        db_table = "search_vectors"

    def __str__(self) -> str:
        return f"search vector of feature {self.pk}"
