"""Features that were stored for a new product lead to its matches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from django.dispatch import receiver

from matching.tasks import match_unmatched
from products import broker
from products.embedding import features_stored

logger = logging.getLogger(__name__)


@receiver(features_stored)
def match_new_products(product_ids: Sequence[int], **_: Any) -> None:
    try:
        with broker.asked():
            match_unmatched.delay(list(product_ids))
    except broker.BrokerAwayError as error:
        logger.warning("The sweep will match the new products, no worker could be told: %s", error)
