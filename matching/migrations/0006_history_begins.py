"""An entry for each verdict that was given before verdicts were recorded."""

from django.db import migrations

VERDICTS = """
INSERT INTO match_history (
    id, product_id, candidate_id, similarity_score, review_status, note, history_date, history_type,
    history_change_reason, history_user_id
) SELECT id, product_id, candidate_id, similarity_score, review_status, note, reviewed_at, '~', 'before', reviewer_id
FROM matches WHERE review_status <> 'pending' ORDER BY reviewed_at, id
"""


class Migration(migrations.Migration):
    dependencies = [("matching", "0005_history")]

    operations = [migrations.RunSQL(VERDICTS, migrations.RunSQL.noop)]
