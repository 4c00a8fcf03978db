"""URLs of the matching API, below /api/."""

from django.urls import path

from matching.api import cases, merging, policies, views

urlpatterns = [
    path("products/<int:pk>/match", views.MatchProductView.as_view(), name="product-match"),
    path("products/<int:pk>/merge", merging.MergeView.as_view(), name="product-merge"),
    path("match", views.MatchImageView.as_view(), name="match-picture"),
    path("search", views.SearchView.as_view(), name="search"),
    path("matches", views.MatchListView.as_view(), name="match-list"),
    path("matches/<int:pk>", views.MatchView.as_view(), name="match-detail"),
    path("matches/<int:pk>/explanation", views.ExplanationView.as_view(), name="match-explanation"),
    path("policies", policies.PoliciesView.as_view(), name="policies"),
    path("cases", cases.CaseListView.as_view(), name="case-list"),
    path("cases/decisions", cases.DecisionsView.as_view(), name="case-decisions"),
    path("cases/<int:pk>", cases.CaseView.as_view(), name="case-detail"),
    path("cases/<int:pk>/decision", cases.DecisionView.as_view(), name="case-decision"),
]
