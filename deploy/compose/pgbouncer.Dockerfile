FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends pgbouncer postgresql-client \
    && rm -rf /var/lib/apt/lists/*
COPY pgbouncer.ini /etc/pgbouncer/pgbouncer.ini
USER postgres
# Compose can't write a config into a container whose file system is read-only; /tmp is in memory.
CMD ["sh", "-c", "umask 077 && printf '\"backend\" \"%s\"\\n' \"$POSTGRES_PASSWORD\" >/tmp/userlist.txt && exec pgbouncer /etc/pgbouncer/pgbouncer.ini"]
