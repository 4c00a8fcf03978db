"""What users may do to other users: never give, or take over, a permission that they do not hold themselves."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser, Group, Permission, User
from django.db.models import Q, QuerySet

CHANGE_USERS = "auth.change_user"


def may_manage(actor: User | AnonymousUser, target: User) -> bool:
    """Return whether ``actor`` may change, deactivate or delete ``target``.

    An account counts with all its permissions, also while it is deactivated: who could reset its password and
    activate it again would have them.
    """
    if not actor.has_perm(CHANGE_USERS):
        return False
    if actor.is_superuser:
        return True
    return not target.is_superuser and not holds_more(target, actor)


def may_end_access(actor: User | AnonymousUser, target: User) -> bool:
    """Return whether ``actor`` may see and revoke the tokens of ``target``, and end the sessions."""
    return actor.pk == target.pk or may_manage(actor, target)


def holds_more(target: User, actor: User | AnonymousUser) -> bool:
    """Return whether ``target`` has a permission that ``actor`` does not have."""
    if actor.is_superuser:
        return False
    held = _permissions_of(actor).values("pk")
    return target.is_superuser or _permissions_of(target).exclude(pk__in=held).exists()


def groups_to_give(actor: User | AnonymousUser) -> QuerySet[Group]:
    """Return the groups that ``actor`` may give: those without a permission that the actor does not have."""
    if actor.is_superuser:
        return Group.objects.all()
    beyond = Permission.objects.exclude(pk__in=_permissions_of(actor).values("pk"))
    return Group.objects.exclude(pk__in=Group.objects.filter(permissions__in=beyond).values("pk"))


def _permissions_of(user: User | AnonymousUser) -> QuerySet[Permission]:
    return Permission.objects.filter(Q(user=user.pk) | Q(group__user=user.pk)).distinct()
