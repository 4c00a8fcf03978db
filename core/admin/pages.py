"""Pages of the admin that belong to no model. A package registers its own, the site serves them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse

View = Callable[[HttpRequest], HttpResponse]


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its address below the admin, the name that ``reverse`` takes, and its view."""

    route: str
    name: str
    view: View


PAGES: list[Page] = []


def admin_page(route: str, *, name: str) -> Callable[[View], View]:
    """Register the decorated view as a page of the admin for signed-in staff."""

    def register(view: View) -> View:
        PAGES.append(Page(route, name, view))
        return view

    return register
