#!/bin/sh
# Add new random secrets to .env for compose.yaml. Secrets that .env has already stay as they are.
set -eu
umask 077

touch .env
for name in DJANGO_SECRET_KEY POSTGRES_PASSWORD REDIS_PASSWORD; do
    if ! grep -q "^$name=." .env; then
        # Without an empty line for the same name, which would win over a later one.
        kept=$(grep -v "^$name=$" .env || true)
        printf '%s\n%s=%s\n' "$kept" "$name" "$(od -An -N 32 -tx1 /dev/urandom | tr -d ' \n')" >.env
    fi
done
