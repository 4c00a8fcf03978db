from django.db import migrations


def log_confirmed(apps, schema_editor):
    """Tell the index that the new products confirmed so far count as views of their catalogue products."""
    if schema_editor.connection.vendor != "sqlite":
        return  # PostgreSQL reads the verdicts with every search
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO index_changes (feature_id, product_id, kind, model_name, token) "
            "SELECT DISTINCT NULL, product_id, '', '', abs(random()) FROM matches WHERE review_status = 'confirmed'"
        )


class Migration(migrations.Migration):
    dependencies = [("matching", "0005_answers")]

    operations = [migrations.RunPython(log_confirmed, migrations.RunPython.noop)]
