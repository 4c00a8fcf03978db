"""Record who changed what and when, with django-simple-history. timeline.py reads the records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import EmptyResultSet
from django.db import connection, models
from django.db.models import Case, F, QuerySet, Value, When
from django.db.models.functions import Cast, Length
from django.db.models.lookups import GreaterThan
from django.dispatch import receiver
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from simple_history.manager import HistoryManager
from simple_history.models import HistoricalRecords
from simple_history.signals import pre_create_historical_record

from core.history.shortening import MAX_JSON_BYTES, MAX_TEXT_LENGTH, shorten


class ChangeSource(models.TextChoices):
    """Where a change came from."""

    ADMIN = "admin", _("admin")
    API = "api", _("API")
    IMPORT = "import", _("import")
    COMMAND = "command", _("command")
    POLICY = "policy", _("policy")
    BEFORE = "before", _("before this was recorded")


_override: ContextVar[tuple[ChangeSource, AbstractBaseUser | None, str] | None] = ContextVar("acting_as", default=None)


@contextmanager
def acting_as(source: ChangeSource, user: AbstractBaseUser | None = None, reference: str = "") -> Iterator[None]:
    """Record changes within the block as made from ``source`` by ``user``.

    The default is the user of the request. ``reference`` says which one of the source it was, such as the id of an
    import, so that ``change_reason`` finds its entries.
    """
    token = _override.set((source, user, reference))
    try:
        yield
    finally:
        _override.reset(token)


def current_user() -> AbstractBaseUser | None:
    """Return the signed-in user to record for a change made now, or None."""
    override = _override.get()
    if override is not None and override[1] is not None:
        return override[1]
    user: AbstractBaseUser | None = getattr(getattr(HistoricalRecords.context, "request", None), "user", None)
    return user if user is not None and user.is_authenticated else None


def current_source() -> ChangeSource:
    """Return the source to record for a change made now."""
    override = _override.get()
    if override is not None:
        return override[0]
    request = getattr(HistoricalRecords.context, "request", None)
    if request is None:
        return ChangeSource.COMMAND
    return ChangeSource.API if request.path.startswith("/api/") else ChangeSource.ADMIN


def change_reason(source: ChangeSource, reference: str = "") -> str:
    """Return what the entries of a source, or of one import, have as the reason."""
    return f"{source.value} {reference}".strip()


def _current_reason() -> str:
    override = _override.get()
    return change_reason(current_source(), override[2] if override is not None else "")


class AuditTrailManager(HistoryManager):
    """Cache the manager classes.

    The library makes one at each access, which costs half a millisecond.
    """

    _classes: ClassVar[dict[Any, Any]] = {}

    @classmethod
    def from_queryset(cls, queryset_class: Any, class_name: str | None = None) -> Any:
        if queryset_class not in cls._classes:
            cls._classes[queryset_class] = super().from_queryset(queryset_class, class_name)
        return cls._classes[queryset_class]


class AuditTrail(HistoricalRecords):
    """Record each change of the fields that users see, in the change's transaction.

    track_creation: also record creation, and deletion of rows that never changed.
    context_fields: fields that an entry stores although a change of them alone makes no entry.
    A save that changes nothing makes no entry. An entry keeps long values shortened. ``core.deletion`` records
    deletions. ``QuerySet.update`` and ``bulk_create`` are not recorded; the queue and the matcher write with them.
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
        # A change of one of these makes an entry. The key and relations of a row never change.
        history_model.compared_fields = [
            field
            for field in self.fields_included(model)
            if not (field.primary_key or field.is_relation or field.name in self.context_fields)
        ]
        history_model.track_creation = self.track_creation
        return history_model

    def post_save(self, instance: Any, created: bool, using: str | None = None, **kwargs: Any) -> None:
        if self.track_creation if created else self._differs(instance):
            super().post_save(instance, created, using, **kwargs)

    def get_history_user(self, _instance: Any) -> AbstractBaseUser | None:
        return current_user()

    def get_change_reason_for_object(self, _instance: Any, _history_type: str, _using: str | None) -> str:
        return _current_reason()

    def _differs(self, instance: Any) -> bool:
        """Whether the instance differs from its newest entry."""
        newest = getattr(instance, self.manager_name).first()
        return newest is None or any(
            shorten(field, getattr(newest, field.attname)) != shorten(field, getattr(instance, field.attname))
            for field in newest.compared_fields
        )


@receiver(pre_create_historical_record)
def shorten_entry(history_instance: Any, **_: Any) -> None:
    """Shorten the long values of an entry before it is saved."""
    for field in getattr(history_instance, "compared_fields", ()):
        setattr(history_instance, field.attname, shorten(field, getattr(history_instance, field.attname)))


def record_changes(rows: QuerySet[Any], user: AbstractBaseUser | None, at: datetime | None = None) -> None:
    """Record that ``user`` changed these rows with ``QuerySet.update``, now or at another time.

    Takes one statement for all rows, or none if there are none.
    """
    _record(rows, "~", user, {}, at)


def record_creations(rows: QuerySet[Any], user: AbstractBaseUser | None, at: datetime | None = None) -> None:
    """Record that ``user`` created these rows with ``bulk_create``, now or at another time."""
    _record(rows, "+", user, {}, at)


def record_deletions(rows: QuerySet[Any], at: datetime | None = None) -> None:
    """Record the deletion of these rows, right before they are deleted.

    Takes one statement for all rows. Long values are left empty: the entry before has them.
    """
    history: Any = rows.model.history.model
    if not history.track_creation:
        rows = rows.exclude(**{field.attname: field.get_default() for field in history.compared_fields})
    kinds = (models.TextField, models.JSONField)
    long: list[Any] = [field for field in history.compared_fields if isinstance(field, kinds)]
    _record(rows, "-", current_user(), {field.column: _unless_long(field) for field in long}, at)


def _unless_long(field: models.Field[Any, Any]) -> Case:
    """Return the column, or its default if the value is long."""
    limit = MAX_JSON_BYTES if isinstance(field, models.JSONField) else MAX_TEXT_LENGTH
    # As a condition on text, because PostgreSQL has no length of JSON.
    length = Length(Cast(field.attname, models.TextField()))
    return Case(When(GreaterThan(length, limit), then=Value(field.get_default(), field)), default=F(field.attname))


def _record(
    rows: QuerySet[Any], kind: str, user: AbstractBaseUser | None, values: dict[str, Any], at: datetime | None
) -> None:
    history: Any = rows.model.history.model
    columns: dict[str, Any] = {field.column: F(field.attname) for field in history.tracked_fields} | values
    entry = {
        "history_date": at or timezone.now(),
        "history_type": kind,
        "history_change_reason": _current_reason(),
    }
    entry["history_user_id"] = user and user.pk
    constants = {name: Value(value, history._meta.get_field(name)) for name, value in entry.items()}
    entries = rows.order_by().values_list(*columns.values(), *constants.values())
    try:
        sql, parameters = entries.query.sql_with_params()
    except EmptyResultSet:  # Django sees that no row can match, as with ``pk__in=[]``
        return
    quote = connection.ops.quote_name
    into = ", ".join(quote(column) for column in (*columns, *constants))
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {quote(history._meta.db_table)} ({into}) {sql}", parameters)
