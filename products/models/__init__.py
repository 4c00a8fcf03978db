"""The tables of the catalogue, its queue and its jobs."""

from products.models.catalogue import Barcode, BlobLength, Feature, Product, ProductImage, image_path
from products.models.deletions import Deletion, DeletionStep
from products.models.downloads import FetchedAddress, ImageDownload
from products.models.imports import ColumnChoice, Import
from products.models.preferences import PreferenceChange
from products.models.queue import EmbeddingDay, QueueSwitch
from products.models.same import ProductMerge, SameAs

__all__ = [
    "Barcode",
    "BlobLength",
    "ColumnChoice",
    "Deletion",
    "DeletionStep",
    "EmbeddingDay",
    "Feature",
    "FetchedAddress",
    "ImageDownload",
    "Import",
    "PreferenceChange",
    "Product",
    "ProductImage",
    "ProductMerge",
    "QueueSwitch",
    "SameAs",
    "image_path",
]
