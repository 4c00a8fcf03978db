"""URLs of the catalogue's API, below /api/."""

from django.urls import path

from products.api import views

urlpatterns = [
    path("products", views.ProductListView.as_view(), name="product-list"),
    path("products/upload", views.UploadView.as_view(), name="product-upload"),
    path("products/<int:pk>", views.ProductView.as_view(), name="product-detail"),
    path("products/<int:pk>/images", views.ProductImagesView.as_view(), name="product-images"),
    path("queue", views.QueueView.as_view(), name="queue"),
]
