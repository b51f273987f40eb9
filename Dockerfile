# The Python that the tests run on; the lock file is for it and all later ones.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /srv
COPY requirements.lock ./
# Wheels only: nothing is compiled, and nothing of a package runs while it is installed. The environment has no pip.
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --no-deps --require-hashes --only-binary :all: --requirement requirements.lock \
    && rm requirements.lock
# The bill of materials of those packages; the program that writes it stays behind.
COPY requirements.lock requirements-sbom.lock pyproject.toml /sbom/
RUN python -m venv --without-pip /sbom/venv \
    && pip --python /sbom/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --no-deps --require-hashes --only-binary :all: --requirement /sbom/requirements-sbom.lock \
    && /sbom/venv/bin/python -W ignore -m cyclonedx_py requirements --pyproject /sbom/pyproject.toml \
        --output-reproducible --output-file /srv/sbom.json /sbom/requirements.lock
COPY alembic.ini ./
COPY migrations migrations
COPY app app
COPY deploy/probe.py ./
RUN /venv/bin/python -m compileall -q app

FROM python:${PYTHON}-slim
# /data holds what the service itself writes: an SQLite database, and mails when there is no SMTP_URL.
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin app \
    && install --directory --owner app --group app --mode 700 /data
COPY --from=build /venv /venv
COPY --from=build /srv /srv
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/srv \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LITESTAR_APP=app.main:app \
    ENVIRONMENT=production \
    HOST=0.0.0.0 \
    PORT=8000
WORKDIR /data
USER 10001
EXPOSE 8000
# That the process answers; whether its database does (/health/ready) is no reason to start it anew.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "/srv/probe.py", "/health/live"]
# The service itself gets SIGTERM, and ends its requests.
CMD ["python", "-m", "app"]
