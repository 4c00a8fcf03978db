"""Who changed what, and when: the records that django-simple-history keeps. products.timeline reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, models
from django.db.models import F, QuerySet, Value
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from simple_history.manager import HistoryManager
from simple_history.models import HistoricalRecords


class ChangeSource(models.TextChoices):
    """By which way a change came."""

    ADMIN = "admin", _("admin")
    API = "api", _("API")
    IMPORT = "import", _("import")
    COMMAND = "command", _("command")
    BEFORE = "before", _("before this was recorded")


_acting: ContextVar[tuple[ChangeSource, AbstractBaseUser | None] | None] = ContextVar("acting", default=None)


@contextmanager
def acting_as(source: ChangeSource, user: AbstractBaseUser | None = None) -> Iterator[None]:
    """Within the block changes count as made by this way and by ``user`` (None: whoever sent the request, if any)."""
    token = _acting.set((source, user))
    try:
        yield
    finally:
        _acting.reset(token)


def current_user() -> AbstractBaseUser | None:
    """Who makes a change that is made now; None when nobody is signed in."""
    acting_now = _acting.get()
    if acting_now is not None and acting_now[1] is not None:
        return acting_now[1]
    user: AbstractBaseUser | None = getattr(getattr(HistoricalRecords.context, "request", None), "user", None)
    return user if user is not None and user.is_authenticated else None


def current_source() -> ChangeSource:
    """The way by which a change that is made now comes."""
    acting_now = _acting.get()
    if acting_now is not None:
        return acting_now[0]
    request = getattr(HistoricalRecords.context, "request", None)
    if request is None:
        return ChangeSource.COMMAND
    return ChangeSource.API if request.path.startswith("/api/") else ChangeSource.ADMIN


class AuditTrailManager(HistoryManager):
    """The library makes the class of a model's ``history`` at each access, which costs half a millisecond."""

    _made: ClassVar[dict[Any, Any]] = {}

    @classmethod
    def from_queryset(cls, queryset_class: Any, class_name: str | None = None) -> Any:
        if queryset_class not in cls._made:
            cls._made[queryset_class] = super().from_queryset(queryset_class, class_name)
        return cls._made[queryset_class]


class AuditTrail(HistoricalRecords):
    """An entry for each change of the fields that people look at, in the transaction of the change.

    ``additions``: whether rows that come are entries, and those that go as they came. ``beside``: fields that an entry
    keeps without being about them. A save that changes nothing leaves no entry. Deletions are recorded by those who
    delete (products.deletion). ``QuerySet.update`` and ``bulk_create`` pass by here, as everywhere in Django: the queue
    and the matcher write with them.
    """

    def __init__(
        self,
        table_name: str,
        *,
        excluded_fields: Sequence[str],
        track_creation: bool = True,
        context_fields: Sequence[str] = (),
    ) -> None:
        self.track_creation = track_creation
        self.context_fields = context_fields
        super().__init__(
            table_name=table_name,
            excluded_fields=list(excluded_fields),
            history_id_field=models.BigAutoField(),
            history_manager=AuditTrailManager,
        )

    def create_history_model(self, model: Any, inherited: bool) -> Any:
        history_model = super().create_history_model(model, inherited)
        tracked = self.fields_included(model)
        # What entries are about. A row's key and its relations do not change.
        history_model.told = [
            one for one in tracked if not (one.primary_key or one.is_relation or one.name in self.context_fields)
        ]
        history_model.track_creation = self.track_creation
        return history_model

    def post_save(self, instance: Any, created: bool, using: str | None = None, **kwargs: Any) -> None:
        if self.track_creation if created else self._differs(instance):
            super().post_save(instance, created, using, **kwargs)

    def get_history_user(self, _instance: Any) -> AbstractBaseUser | None:
        return current_user()

    def get_change_reason_for_object(self, _instance: Any, _history_type: str, _using: str | None) -> str:
        return current_source().value

    def _differs(self, instance: Any) -> bool:
        """Whether the instance is not what its newest entry says."""
        newest = getattr(instance, self.manager_name).first()
        return newest is None or any(
            getattr(newest, one.attname) != getattr(instance, one.attname) for one in newest.told
        )


def record_changes(rows: QuerySet[Any], user: AbstractBaseUser) -> None:
    """An entry of ``user`` for each of these rows, which ``QuerySet.update`` has changed; one statement for all."""
    _record(rows, "~", user)


def record_deletions(rows: QuerySet[Any]) -> None:
    """An entry for each of these rows, which are deleted next and not along with another; one statement for all."""
    history: Any = rows.model.history.model
    if not history.track_creation:
        rows = rows.exclude(**{one.attname: one.get_default() for one in history.told})
    _record(rows, "-", current_user())


def _record(rows: QuerySet[Any], kind: str, user: AbstractBaseUser | None) -> None:
    history: Any = rows.model.history.model
    columns = {one.column: F(one.attname) for one in history.tracked_fields}
    given = {"history_date": timezone.now(), "history_type": kind, "history_change_reason": current_source().value}
    given["history_user_id"] = user and user.pk
    constants = {name: Value(value, history._meta.get_field(name)) for name, value in given.items()}
    values = rows.order_by().values_list(*columns.values(), *constants.values())
    sql, parameters = values.query.sql_with_params()
    quote = connection.ops.quote_name
    into = ", ".join(quote(column) for column in (*columns, *constants))
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {quote(history._meta.db_table)} ({into}) {sql}", parameters)
