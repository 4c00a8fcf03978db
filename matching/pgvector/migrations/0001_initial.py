"""The vectors that PostgreSQL searches by, and the triggers that give every feature a row."""

import django.db.models.deletion
from django.db import migrations, models

FORWARD = """
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE search_vectors (
    feature_id bigint PRIMARY KEY REFERENCES features (id) ON DELETE CASCADE,
    product_id bigint NOT NULL,
    kind varchar(10) NOT NULL,
    model_name varchar(200) NOT NULL,
    dim integer,
    unusable boolean NOT NULL DEFAULT false,
    embedding halfvec
);
-- What waits to be filled: read before every search.
CREATE INDEX search_vectors_waiting ON search_vectors (feature_id) WHERE embedding IS NULL AND NOT unusable;
-- The exact search of a narrow filter, from its products.
CREATE INDEX search_vectors_product ON search_vectors (product_id, kind, model_name);

CREATE FUNCTION search_vectors_follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO search_vectors (feature_id, product_id, kind, model_name)
    VALUES (NEW.id, NEW.product_id, NEW.kind, NEW.model_name)
    ON CONFLICT (feature_id) DO UPDATE SET
        product_id = NEW.product_id, kind = NEW.kind, model_name = NEW.model_name,
        dim = NULL, unusable = false, embedding = NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER search_vectors_follow AFTER INSERT OR UPDATE OF
    product_id, kind, model_name, color_features, shape_features, texture_features
    ON features FOR EACH ROW EXECUTE FUNCTION search_vectors_follow();

INSERT INTO search_vectors (feature_id, product_id, kind, model_name)
SELECT id, product_id, kind, model_name FROM features;
"""

BACKWARD = """
DROP TRIGGER search_vectors_follow ON features;
DROP FUNCTION search_vectors_follow;
DROP TABLE search_vectors;
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = [("products", "0001_squashed_0009_deletions")]

    operations = [
        migrations.RunSQL(
            FORWARD,
            BACKWARD,
            state_operations=[
                migrations.CreateModel(
                    name="SearchVector",
                    fields=[
                        (
                            "feature",
                            models.OneToOneField(
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                primary_key=True,
                                related_name="+",
                                serialize=False,
                                to="products.feature",
                            ),
                        ),
                        ("product_id", models.BigIntegerField()),
                        ("kind", models.CharField(max_length=10)),
                        ("model_name", models.CharField(max_length=200)),
                        ("dim", models.IntegerField(null=True)),
                        ("unusable", models.BooleanField(default=False)),
                    ],
                    options={"db_table": "search_vectors"},
                ),
            ],
        ),
    ]
