"""Users and roles in the admin. A manager assigns roles. Only a superuser makes superusers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminRadioSelectWidget

from catalogmatch.accounts import passwords, rules
from catalogmatch.accounts.roles import ROLES, WORDS
from core.admin.paging import BoundedLookupsAdmin

admin.site.unregister(User)
admin.site.unregister(Group)


class GroupsField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]  # Django's own is not generic
    """Groups, with what the four roles may do."""

    def label_from_instance(self, group: Any) -> str:
        return f"{group.name}: {WORDS[group.name]}" if group.name in WORDS else group.name


class RoleWidget(UnfoldAdminRadioSelectWidget):
    """One choice of a field that has several."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        return data.getlist(name) if hasattr(data, "getlist") else data.get(name)


class RoleField(GroupsField):
    """One of the four roles, or none."""

    def clean(self, value: Any) -> Any:
        if value and len(value) > 1:
            raise ValidationError(_("Choose one role."), code="one_role")
        return super().clean(value)


@admin.register(User)
class UserAdmin(BoundedLookupsAdmin, DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]  # Django's own is not generic
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "full_name", "roles", "is_active", "last_login")
    list_filter = ("groups", "is_active")
    list_per_page = 50
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Name and email"), {"fields": (("first_name", "last_name"), "email")}),
        (_("Access"), {"fields": ("is_active", "is_staff", "groups", "api_tokens")}),
    )
    superuser_fieldset = (
        _("Extra permissions"),
        {
            "classes": ("collapse",),
            "fields": ("is_superuser", "user_permissions"),
            "description": _("Permissions beside the role. Nearly always the role is enough."),
        },
    )
    add_fieldsets = (
        (
            None,
            {
                "fields": ("username", "email", "usable_password", "password1", "password2", "groups"),
                "description": _("The user changes this password at the first sign-in."),
            },
        ),
    )
    readonly_fields = ("last_login", "api_tokens")
    filter_horizontal = ()

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest | None = None, **kwargs: Any) -> Any:
        """Offer the roles as one choice, in words. If there are groups beside the roles, offer all as a list."""
        if request is not None and db_field.name == "groups":
            kwargs["queryset"] = rules.groups_to_give(request.user)
            if kwargs["queryset"].exclude(name__in=ROLES).exists():
                kwargs |= {"form_class": GroupsField, "widget": UnfoldAdminCheckboxSelectMultipleWidget()}
            else:
                kwargs |= {"form_class": RoleField, "widget": RoleWidget()}
        field = super().formfield_for_manytomany(db_field, request, **kwargs)  # type: ignore[arg-type]  # stubs differ
        if field is not None and db_field.name == "groups":
            field.label = _("Role")
            field.help_text = ""
        return field

    @display(description=_("name"))
    def full_name(self, user: User) -> str:
        return user.get_full_name()

    @display(description=_("roles"))
    def roles(self, user: User) -> str:
        names = [group.name for group in user.groups.all()]
        return ", ".join([*names, str(_("superuser"))] if user.is_superuser else names)

    @display(description=_("API tokens and sessions"))
    def api_tokens(self, user: User) -> str:
        return format_html('<a class="cm-link" href="{}">{}</a>', reverse("admin:tokens_of", args=[user.pk]), _("Show"))

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("groups")

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None:
            return fieldsets
        if request.user.is_superuser:
            return (*fieldsets, self.superuser_fieldset)
        if rules.may_end_access(request.user, obj):
            return fieldsets
        hidden = {"password", "api_tokens"}
        return [
            (title, {**options, "fields": [name for name in options["fields"] if name not in hidden]})
            for title, options in fieldsets
        ]

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Let managers change the users who have no permission that they lack themselves."""
        allowed = bool(super().has_change_permission(request, obj))
        return allowed and (obj is None or rules.may_manage(request.user, obj))

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        allowed = bool(super().has_delete_permission(request, obj))
        return allowed and (obj is None or rules.may_manage(request.user, obj))

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """Set the password of another user. One's own needs the old one, so that a stolen session cannot replace it."""
        if self.get_object(request, unquote(id)) == request.user:
            return redirect("admin:password_change")
        response: HttpResponse = super().user_change_password(request, id, form_url)
        user = self.get_object(request, unquote(id))
        if request.method == "POST" and response.status_code == HTTPStatus.FOUND and user is not None:
            passwords.require_change(user)
        return response

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save the roles. Raises PermissionDenied, which undoes it all, if the user now has more than the editor."""
        super().save_related(request, form, formsets, change)
        if rules.holds_more(form.instance, request.user):
            raise PermissionDenied

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if not change:
            obj.is_staff = True  # the admin is the only site that users sign in to
        super().save_model(request, obj, form, change)
        if not change:
            passwords.require_change(obj)


@admin.register(Group)
class RoleAdmin(BoundedLookupsAdmin, DjangoGroupAdmin, ModelAdmin):
    """Roles and their permissions. Every ``migrate`` resets the four roles of the program."""

    filter_horizontal = ()
    list_display = ("name", "may")

    @display(description=_("may"))
    def may(self, group: Group) -> str:
        return str(WORDS.get(group.name, "")) or str(_("what its permissions say"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest | None = None, **kwargs: Any) -> Any:
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field is not None:
            field.widget = UnfoldAdminCheckboxSelectMultipleWidget(choices=field.choices)
        return field


def _is_superuser(request: HttpRequest) -> bool:
    """Only a superuser edits groups, because a group can hold any permission."""
    return bool(request.user.is_active and request.user.is_superuser)
