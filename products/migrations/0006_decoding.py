"""Record which version of the decoding made an image, and of which pixels a feature is.

Images and features from before it have the version 0.
"""

from django.db import migrations, models

import products.models.catalogue

_IMAGE = {
    "verbose_name": "version of the decoding",
    "editable": False,
    "help_text": "Images of an earlier version may show wrong colours. `manage.py reindex` makes them again.",
}
_FEATURE = {"verbose_name": "version of the decoding", "editable": False}


class Migration(migrations.Migration):
    dependencies = [("products", "0005_commerce_fields")]

    operations = [
        operation
        for model, options in (("productimage", _IMAGE), ("feature", _FEATURE))
        for operation in (
            migrations.AddField(model, "decoding", models.PositiveSmallIntegerField(default=0, **options)),
            migrations.AlterField(
                model,
                "decoding",
                models.PositiveSmallIntegerField(default=products.models.catalogue.current_decoding, **options),
            ),
        )
    ]
