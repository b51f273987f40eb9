# `just` alone lists the recipes; each of them first installs what it needs into .venv.

python := ".venv/bin/python"
compile := python + " -m uv pip compile --quiet"

_default:
    @"{{ just_executable() }}" --list --unsorted

# Start the service
run: (_install "requirements.lock")
    @exec {{ python }} -m app

# Start the service, and again whenever the code changes
dev: (_install "requirements-dev.lock")
    @exec {{ python }} -m app --reload

# Run the quick tests, or those of them that pytest's arguments choose
[positional-arguments]
test *args: (_install "requirements-dev.lock")
    @exec {{ python }} -m pytest "$@"

# Run the tests that start the program, a browser or a tool, or those of them that pytest's arguments choose
[positional-arguments]
test-slow *args: (_install "requirements-dev.lock")
    @exec {{ python }} -m pytest -m slow "$@"

# Run the quick tests and measure their coverage, which nearly doubles what they compute
coverage: (_install "requirements-dev.lock")
    @exec {{ python }} -m pytest --cov

# Install the client of Node.js that one of the tests signs in by, which is skipped without it
node-client:
    @exec .ci/node-client

# Test several instances behind nginx, PgBouncer, and Apache that signs people in; as root it installs Debian's packages
test-scale: (_install "requirements-dev.lock")
    @exec .ci/scale

# Build the image and run it by Docker, alone and by compose; as root it installs Debian's packages of Docker
test-image: (_install "requirements-dev.lock")
    @exec .ci/image

# Break what the service depends on and see what it promises in docs/reliability.md hold
[positional-arguments]
test-faults *args: (_install "requirements-dev.lock")
    @exec {{ python }} -m pytest -m faults --numprocesses=0 "$@"

# Send the service what a program makes up, for so many minutes on each database as a user and as a superuser
fuzz minutes="5": (_install "requirements-dev.lock")
    @FUZZ_MINUTES={{ quote(minutes) }} exec {{ python }} -m pytest -m fuzz --numprocesses=0 -rA tests/fuzz

# Run every check that a change must pass
check: _formatted lint types _migrated coverage test-slow

# Lay the code out and sort its imports
format: (_install "requirements-dev.lock")
    @{{ python }} -m ruff check --quiet --select I --fix
    @{{ python }} -m ruff format --quiet

# Look for mistakes and poor style
lint: (_install "requirements-dev.lock")
    @{{ python }} -m ruff check

# Check the types
types: (_install "requirements-dev.lock")
    @{{ python }} -m mypy

# Bring the database of DATABASE_URL up to the newest revision
migrate: (_install "requirements.lock")
    @{{ python }} -m alembic upgrade head

# Say which settings are in force, whether what they name answers, and what production would refuse
doctor: (_install "requirements.lock")
    @exec {{ python }} -m app doctor

# Write a revision that takes the database of DATABASE_URL to what the models say
[positional-arguments]
revision message: (_install "requirements-dev.lock")
    @{{ python }} -m alembic revision --autogenerate --message "$1"

# Measure the service against its peers, each with the packages that it ships with
[positional-arguments]
bench *args: (_install "requirements.lock" ".venv-service") (_install "requirements-bench.lock" ".venv-bench")
    @exec .venv-bench/bin/python -m benchmarks "$@"

# Turn a fresh clone into a project of one's own: its name, and a sentence that says what it is for
[positional-arguments]
rename title about="":
    @python3 deploy/rename.py "$1" "$2"

# Write sbom.json, a bill of materials (CycloneDX) of the packages that the service runs on
sbom: (_install "requirements-sbom.lock" ".venv-sbom")
    @.venv-sbom/bin/python -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible \
        --output-file sbom.json requirements.lock

# Pin the dependencies of pyproject.toml; with --upgrade, to their current releases
[positional-arguments]
lock *args: (_install "requirements-dev.lock")
    @{{ compile }} "$@" -o requirements-dev.lock --group dev --all-extras pyproject.toml
    @{{ compile }} "$@" -o requirements.lock -c requirements-dev.lock pyproject.toml
    @{{ compile }} "$@" -o requirements-otel.lock -c requirements-dev.lock --extra otel pyproject.toml
    @{{ compile }} "$@" -o requirements-bench.lock -c requirements-dev.lock --group bench
    @{{ compile }} "$@" -o requirements-sbom.lock -c requirements-dev.lock --group sbom

# Fail when the code isn't laid out as `just format` does it
_formatted: (_install "requirements-dev.lock")
    @{{ python }} -m ruff check --quiet --select I
    @{{ python }} -m ruff format --check

# Fail when the models say something that no migration does
_migrated: (_install "requirements-dev.lock")
    #!/bin/sh
    set -eu
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    export DATABASE_URL="sqlite:///$dir/app.db"
    {{ python }} -m alembic upgrade head
    {{ python }} -m alembic check

# Install a lock file by uv or else pip, unless the environment's stamp says that it's there already
[no-exit-message]
_install lock venv=".venv":
    #!/bin/sh
    set -eu
    stamp={{ venv }}/installed-locks
    if grep -qs {{ sha256_file(lock) }} "$stamp"; then exit 0; fi
    python={{ venv }}/bin/python
    uv=$(command -v uv || true)
    # uv needs no pip in the environment.
    "$python" -c "import $([ -n "$uv" ] && echo sys || echo pip)" 2>/dev/null || python=python3
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "Python 3.11 or newer is needed; $python is $("$python" --version 2>/dev/null || echo missing)." \
            "Make the environment with a newer one: python3.11 -m venv --clear {{ venv }}" >&2
        exit 1
    fi
    echo "Setting up {{ venv }} (the first time takes up to a minute) ..." >&2
    [ "$python" != python3 ] || python3 -m venv --clear {{ venv }}
    rm -f "$stamp"
    if [ -n "$uv" ]; then
        set -- "$uv" pip install --python {{ venv }}/bin/python
    else
        set -- {{ venv }}/bin/python -m pip install --disable-pip-version-check --no-input
    fi
    if ! "$@" --no-deps --require-hashes --requirement {{ lock }} >{{ venv }}/install.log 2>&1; then
        reason=$(grep -i -A 1 '^ *error' {{ venv }}/install.log | head -n 2 | tr -s ' \n' ' ')
        echo "The packages of {{ lock }} can't be installed: ${reason}(all of it: {{ venv }}/install.log)" >&2
        exit 1
    fi
    # What developers need holds all that the service needs, in the same versions.
    echo {{ sha256_file(lock) }} \
        {{ if lock == "requirements-dev.lock" { sha256_file("requirements.lock") } else { "" } }} >"$stamp"
