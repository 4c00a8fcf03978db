"""Add the API tokens, take over those of django-rest-knox, and remove its table.

The digests that knox stored stay valid: SHA-512 of the same text that the client sends.
"""

import django.contrib.auth.models
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models
from django.db.migrations.recorder import MigrationRecorder

KNOX_TABLE = "knox_authtoken"
BATCH = 1000


def take_over_knox_tokens(apps, schema_editor):
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        if KNOX_TABLE not in connection.introspection.table_names(cursor):
            return
    old_tokens, tokens = apps.get_model("accounts", "KnoxToken"), apps.get_model("accounts", "Token")
    tokens.objects.using(connection.alias).bulk_create(
        (
            tokens(
                user_id=old.user_id, algorithm="sha512", digest=old.digest, key_start=old.token_key[:8],
                created_at=old.created, expires_at=old.expiry,
            )
            for old in old_tokens.objects.using(connection.alias).order_by("created").iterator(BATCH)
        ),
        batch_size=BATCH,
    )  # fmt: skip
    schema_editor.execute(f"DROP TABLE {connection.ops.quote_name(KNOX_TABLE)}")
    MigrationRecorder(connection).migration_qs.filter(app="knox").delete()
    kinds = apps.get_model("contenttypes", "ContentType").objects.using(connection.alias).filter(app_label="knox")
    apps.get_model("auth", "Permission").objects.using(connection.alias).filter(content_type__in=kinds).delete()
    kinds.delete()


class Migration(migrations.Migration):
    initial = True
    dependencies = [
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        # The table of knox, only for as long as this migration reads it.
        migrations.CreateModel(
            name="KnoxToken",
            fields=[
                ("digest", models.CharField(max_length=128, primary_key=True, serialize=False)),
                ("token_key", models.CharField(max_length=25)),
                ("user_id", models.IntegerField()),
                ("created", models.DateTimeField()),
                ("expiry", models.DateTimeField(null=True)),
            ],
            options={"managed": False, "db_table": KNOX_TABLE},
        ),
        migrations.CreateModel(
            name="ScopedUser",
            fields=[],
            options={"proxy": True, "default_permissions": (), "indexes": [], "constraints": []},
            bases=("auth.user",),
            managers=[("objects", django.contrib.auth.models.UserManager())],
        ),
        migrations.CreateModel(
            name="Token",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(blank=True, max_length=100, verbose_name="name")),
                ("key_start", models.CharField(max_length=8)),
                (
                    "algorithm",
                    models.CharField(
                        choices=[("sha256", "Sha256"), ("sha512", "Sha512")], default="sha256", max_length=6
                    ),
                ),
                ("digest", models.CharField(max_length=128, unique=True)),
                (
                    "scope",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("viewer", "viewer"),
                            ("uploader", "uploader"),
                            ("reviewer", "reviewer"),
                            ("manager", "manager"),
                        ],
                        max_length=10,
                        verbose_name="scope",
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("last_used_at", models.DateTimeField(blank=True, null=True)),
                ("revoked_at", models.DateTimeField(blank=True, null=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="api_tokens",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={"db_table": "api_tokens", "ordering": ["-id"], "default_permissions": ()},
        ),
        migrations.RunPython(take_over_knox_tokens, migrations.RunPython.noop),
        migrations.DeleteModel(name="KnoxToken"),
    ]
