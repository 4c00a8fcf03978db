"""Shared by all API views: authentication, permissions, errors, pagination and throttling."""
