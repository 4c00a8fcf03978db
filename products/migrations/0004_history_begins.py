"""An entry for what is there already, so that the first change of it can be told from what it was."""

from django.db import migrations

# Apart from the creation of the tables: PostgreSQL changes no table with rows whose foreign keys it has yet to check.
PRODUCTS = """
INSERT INTO product_history (
    id, sku, name, category, description, is_historical, attributes, history_date, history_type, history_change_reason
) SELECT id, sku, name, category, description, is_historical, attributes, created_at, '+', 'before'
FROM products ORDER BY id
"""
PICTURES = """
INSERT INTO product_image_history (id, product_id, original_name, history_date, history_type, history_change_reason)
SELECT id, product_id, original_name, created_at, '+', 'before' FROM product_images ORDER BY id
"""


class Migration(migrations.Migration):
    dependencies = [("products", "0003_history")]

    operations = [
        migrations.RunSQL(PRODUCTS, migrations.RunSQL.noop),
        migrations.RunSQL(PICTURES, migrations.RunSQL.noop),
    ]
