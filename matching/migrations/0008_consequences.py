from django.db import migrations, models


def link_decided(apps, schema_editor):
    """Link the products of the decisions so far that are the same as catalogue products."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO same_as (product_id, other_id) SELECT matches.product_id, matches.candidate_id FROM matches "
            "JOIN decisions ON decisions.product_id = matches.product_id "
            "WHERE decisions.kind = 'same' AND matches.review_status = 'confirmed'"
        )


class Migration(migrations.Migration):
    dependencies = [("matching", "0007_policies"), ("products", "0011_same_products")]

    operations = [
        migrations.AddField(
            model_name="decision",
            name="effects",
            field=models.JSONField(default=list, editable=False, verbose_name="values that it gave to products"),
        ),
        migrations.AddField(
            model_name="decision",
            name="images_are_views",
            field=models.BooleanField(
                default=True,
                editable=False,
                help_text="The images of the new product count as views of the catalogue product that it is.",
                verbose_name="images are views",
            ),
        ),
        migrations.AlterField(
            model_name="modeljob",
            name="kind",
            field=models.CharField(
                choices=[
                    ("train", "learn a head"),
                    ("compare", "compare two versions"),
                    ("duplicates", "find duplicates"),
                ],
                max_length=10,
                verbose_name="kind",
            ),
        ),
        migrations.RunPython(link_decided, migrations.RunPython.noop),
    ]
