FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends pgbouncer postgresql-client \
    && rm -rf /var/lib/apt/lists/*
COPY pgbouncer.ini /etc/pgbouncer/pgbouncer.ini
USER postgres
CMD ["pgbouncer", "/etc/pgbouncer/pgbouncer.ini"]
