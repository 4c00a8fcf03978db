"""Admin pages that belong to no model. A package registers its own, and the site serves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.http import HttpResponse

View = Callable[..., HttpResponse]


@dataclass(frozen=True, slots=True)
class Page:
    """A page with its route below the admin and its name for ``reverse``."""

    route: str
    name: str
    view: View


PAGES: list[Page] = []


def admin_page(route: str, *, name: str) -> Callable[[View], View]:
    """Register the decorated view as an admin page for signed-in staff."""

    def register(view: View) -> View:
        PAGES.append(Page(route, name, view))
        return view

    return register
