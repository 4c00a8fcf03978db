#!/bin/sh
# Prepare the database, then become the command of the container.
#
# gunicorn and celery wait for the database. One process at a time migrates, so the first does it and the others find
# it done. gunicorn also collects the static files. All other commands start at once.
set -eu
umask 077
cd "$(dirname "$0")/.."

connect() {
    DJANGO_SETTINGS_MODULE=catalogmatch.settings \
        python -c 'from django.db import connection; connection.ensure_connection()' 2>&1
}

wait_for_database() {
    deadline=$(($(date +%s) + ${CATALOGMATCH_WAIT_SECONDS:-60}))
    until output=$(connect); do
        # The last line of a traceback that names an error. Errors of PostgreSQL have several lines.
        reason=$(printf '%s\n' "$output" | grep -E '^[A-Za-z_.0-9]+(Error|ImproperlyConfigured): ' | tail -n 1)
        message=${reason#*: }
        case $reason in
            *OperationalError*) ;;
            *) # A wrong setting does not become right by waiting.
                printf 'CatalogMatch cannot start: %s\n' "${message:-$output}" >&2
                exit 1
                ;;
        esac
        if [ "$(date +%s)" -ge "$deadline" ]; then
            printf 'The database cannot be used: %s\n' "$message" >&2
            exit 1
        fi
        printf 'Waiting for the database: %s\n' "$message" >&2
        sleep 1
    done
}

prepare() {
    wait_for_database
    # All containers share the data folder. The lock ends with the parentheses, also if a command fails.
    (
        flock 9
        python manage.py migrate --noinput
        if [ "$1" = gunicorn ]; then
            python manage.py collectstatic --noinput --verbosity 0
        fi
    ) 9>"$CATALOGMATCH_DATA_DIR/prepare.lock"
}

case ${1:-} in
    gunicorn | celery) prepare "$1" ;;
esac
exec "$@"
