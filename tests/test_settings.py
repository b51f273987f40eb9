"""The settings: where they come from, and which are refused."""

import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from app.main import create_app
from app.settings import DEFAULT_DATABASE_URL, Settings, database_url
from app.settings.addresses import mailbox, smtp_server
from app.settings.environment import ENV_FILE, make_private, write_first_secret
from app.settings.error import SettingsError
from tests.factories import SECRET, connect_to, log_in, register
from tests.programs import ROOT

RANDOM = "Zq3vX9-4tKpL0mWbN7yRcE2uHsJ8gDfA"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a `.env`, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("SECRET_KEY", "DATABASE_URL", "ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)


def load(**variables: str) -> Settings:
    """Return the settings of an environment that has a secret and these variables."""
    return Settings.load({"SECRET_KEY": SECRET} | variables)


# Where they come from -------------------------------------------------------------------------------------------------


def test_all_but_the_secret_have_defaults() -> None:
    """The defaults are those that the documentation names."""
    settings = load()
    assert settings.database_url == DEFAULT_DATABASE_URL
    assert (settings.algorithm, settings.access_token_expire_minutes) == ("HS256", 30)
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 1)
    assert settings.url == "http://127.0.0.1:8000"
    assert not settings.production


def test_a_variable_wins_over_its_line_in_the_file() -> None:
    """A variable that the environment doesn't have is read from the file."""
    ENV_FILE.write_text("PORT=9001\nHOST=localhost\n# WORKERS=5\n")
    settings = load(PORT="9002")
    assert (settings.port, settings.host, settings.workers) == (9002, "localhost", 1)


def test_an_empty_variable_counts_as_unset() -> None:
    """Containers set variables so."""
    assert load(PORT="", CORS_ORIGINS="", PUBLIC_URL="").port == 8000


def test_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read when no other is given."""
    monkeypatch.setenv("SECRET_KEY", SECRET)
    assert Settings.load().secret_key == SECRET


def test_lists_are_separated_by_commas() -> None:
    """Spaces may stand round the commas."""
    assert load(CORS_ORIGINS="https://a.org, http://localhost:3000,").cors_origins == (
        "https://a.org",
        "http://localhost:3000",
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/n",
        "postgres://u:p#/?[@h:5432/n?sslmode=require",
        "postgresql+asyncpg://u:p@h/n",
        "postgresql://postgres@/postgres?host=/tmp/x",
        "postgresql://u:p@%2Fvar%2Frun%2Fpostgresql/n",
        "postgresql://u:p,/@a:5432,b/n?target_session_attrs=read-write",
        "postgresql://h/n?connect_timeout=5&application_name=x&options=-csearch_path%3Dx&channel_binding=prefer",
        "postgresql://h/n?sslmode=verify-full&sslrootcert=system",
        "postgresql://h/n?sslmode=verify-ca&sslrootcert=/dev/null&sslcert=/dev/null&sslkey=/dev/null",
        "postgresql://h/n?gssencmode=disable&client_encoding=utf8&keepalives=1&sslsni=1",
        "sqlite:///file?timeout=5",
        "sqlite:///file",
        "sqlite:////tmp/file",
        "sqlite+aiosqlite:///file",
    ],
)
def test_these_databases_are_taken(url: str) -> None:
    """The URL may name a driver or not."""
    assert load(DATABASE_URL=url).database_url == url


def test_replicas_are_named_one_after_the_other() -> None:
    """They are separated by commas, as every list is."""
    urls = load(DATABASE_URL="postgresql://h/n", DATABASE_REPLICA_URLS="postgresql://a/n, postgres://b/n")
    assert urls.database_replica_urls == ("postgresql://a/n", "postgres://b/n")


def test_a_public_url_has_no_slash_at_its_end() -> None:
    """Tokens name it as their issuer."""
    assert load(PUBLIC_URL="https://api.example.org/v1/").url == "https://api.example.org/v1"


@pytest.mark.parametrize(("pool", "workers", "each"), [("20", "1", 20), ("20", "4", 5), ("7", "3", 2)])
def test_the_pool_is_divided_among_the_workers(pool: str, workers: str, each: int) -> None:
    """Together they never open more connections than the setting says."""
    assert load(DATABASE_POOL_SIZE=pool, WORKERS=workers).worker_pool_size == each


def test_an_ipv6_address_stands_in_brackets() -> None:
    """It does so where a port follows it; a public URL is taken as it is."""
    assert load(HOST="::1").url == load(HOST="[::1]").url == "http://[::1]:8000"
    assert load(HOST="[::1]").host == "::1"
    assert load(PUBLIC_URL="http://[::1]:8000").url == "http://[::1]:8000"


def test_a_value_in_the_file_may_name_others() -> None:
    """Of the file or of the environment; in single quotes it is taken as it is."""
    ENV_FILE.write_text("DATA=/data\nMAIL_DIR=${DATA}/${BOX:-out}/${WHO}\nMAIL_FROM='${x} <a@b.org>'\n")
    settings = load(WHO="me")
    assert (settings.mail_dir, settings.mail_from) == ("/data/out/me", "${x} <a@b.org>")


def test_the_file_may_begin_with_a_byte_order_mark() -> None:
    """Some editors write one."""
    ENV_FILE.write_bytes("PORT=9001\nMAIL_DIR=Käfig\n".encode("utf-8-sig"))
    assert (load().port, load().mail_dir) == (9001, "Käfig")


def test_the_example_file_holds_the_defaults() -> None:
    """It can be copied as it is, once it has a secret."""
    ENV_FILE.write_text((ROOT / ".env.example").read_text())
    assert load() == Settings(secret_key=SECRET)


def test_migrations_need_no_secret() -> None:
    """The database's address is read alone."""
    assert database_url() == DEFAULT_DATABASE_URL
    ENV_FILE.write_text("DATABASE_URL=postgres://h/n\n")
    assert database_url() == "postgres://h/n"


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY is not set"),
        ({"SECRET_KEY": "x" * 31}, "SECRET_KEY must have at least 32 bytes for HS256"),
        ({"ALGORITHM": "HS512"}, "SECRET_KEY must have at least 64 bytes for HS512"),
        ({"SECRET_KEY_PREVIOUS": "short"}, "at least 32 bytes"),
        ({"ALGORITHM": "none"}, "ALGORITHM: Invalid enum value 'none'"),
        ({"ALGORITHM": "PS256"}, "ALGORITHM: Invalid enum value 'PS256'"),
        ({"ALGORITHM": "ES256", "SECRET_KEY": SECRET[:31]}, "SECRET_KEY must have at least 32 bytes for ES256"),
        ({"ACCESS_TOKEN_EXPIRE_MINUTES": "0"}, "ACCESS_TOKEN_EXPIRE_MINUTES: "),
        ({"ACCESS_TOKEN_EXPIRE_MINUTES": "soon"}, "ACCESS_TOKEN_EXPIRE_MINUTES: "),
        ({"ENVIRONMENT": "staging"}, "ENVIRONMENT: Invalid enum value 'staging'"),
        ({"PASSKEY_DOMAIN": "localhost"}, "PASSKEY_DOMAIN must be the host of PUBLIC_URL, 127.0.0.1, or a parent"),
        ({"PASSKEY_DOMAIN": "0.0.1"}, "PASSKEY_DOMAIN must be the host of PUBLIC_URL, 127.0.0.1, or a parent"),
        ({"PUBLIC_URL": "https://api.example.org", "PASSKEY_DOMAIN": "org"}, "PASSKEY_DOMAIN must be the host"),
        ({"PUBLIC_URL": "https://api.example.org", "PASSKEY_DOMAIN": "ple.org"}, "PASSKEY_DOMAIN must be the host"),
        ({"PORT": "0"}, "PORT: "),
        ({"PORT": "65536"}, "PORT: "),
        ({"WORKERS": "0"}, "WORKERS: "),
        ({"DRAIN_SECONDS": "-1"}, "DRAIN_SECONDS: "),
        (
            {"DATABASE_URL": "postgresql://h/n", "DATABASE_POOL_SIZE": "7", "WORKERS": "4"},
            "DATABASE_POOL_SIZE must be at least 2 for each of the WORKERS",
        ),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL: "),
        ({"CORS_ORIGINS": "app.example.org"}, "CORS_ORIGINS: app.example.org is not an origin"),
        ({"CORS_ORIGINS": "https://a.org/path"}, "is not an origin"),
        ({"CORS_ORIGINS": "https://a.org/"}, "is not an origin"),
        *(
            ({"CORS_ORIGINS": origin}, f"CORS_ORIGINS: {origin} is not an origin")
            for origin in ("https://*", "https://*.a.org", "https://a.org:x", "https://u@a.org", "null", "https://")
        ),
        *(
            ({"MAIL_FROM": text}, "MAIL_FROM must be an address")
            for text in ("nobody", "a@b c", "a@b.org, c@d.org", "A <a@b.org> B", "a@-é.org", "@b.org")
        ),
        ({"ACCOUNT_PAGES": "maybe"}, "ACCOUNT_PAGES: "),
        *(
            ({"ACCOUNT_URL": url}, "ACCOUNT_URL must be http:// or https:// with a host")
            for url in ("app.example.org", "https://", "https://app.example.org/#account", "http://[")
        ),
        ({"TEMPLATES_DIR": "/nowhere"}, "TEMPLATES_DIR: there is no folder /nowhere"),
        ({"PAGES_COLOUR": "blue"}, "PAGES_COLOUR must be a colour such as #1d4ed8"),
        ({"PAGES_COLOUR_DARK": "#12345g"}, "PAGES_COLOUR_DARK must be a colour such as"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://["}, "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL"),
        *(
            ({"PUBLIC_URL": url}, "PUBLIC_URL must be http:// or https:// with a host")
            for url in (
                "api.example.org",
                "ftp://api.example.org",
                "https://",
                "https:///v1",
                "https://:443",
                "https://[::1",
                "https://api.example.org:port",
                "https://user:password@api.example.org",
                "https://api.example.org/?v=1",
                "https://api.example.org/#v1",
            )
        ),
        ({"TRUSTED_PROXIES": "proxy"}, "TRUSTED_PROXIES: proxy is no address"),
        ({"REGISTRATION": "maybe"}, "REGISTRATION: "),
        ({"JOBS_IN_PROCESS": "perhaps"}, "JOBS_IN_PROCESS: "),
        ({"DATABASE_URL": "mysql://h/n"}, "DATABASE_URL must be"),
        ({"DATABASE_URL": "sqlite://"}, "DATABASE_URL must be"),
        ({"DATABASE_URL": "sqlite:///:memory:"}, "DATABASE_URL must be"),
        ({"DATABASE_URL": "postgresql://u@h:port/n"}, "DATABASE_URL must be"),
        ({"DATABASE_URL": "postgresql+psycopg2://h/n"}, "DATABASE_URL must be"),
        ({"DATABASE_URL": "file.sqlite3"}, "DATABASE_URL must be"),
        ({"DATABASE_URL": "postgresql://h:65536/n"}, "DATABASE_URL must be"),
        ({"DATABASE_URL": "sqlite:///file?foo=1"}, "DATABASE_URL: the driver of the database has no parameter foo"),
        *(
            ({"DATABASE_URL": f"postgresql://h/n?{parameter}"}, f"DATABASE_URL: {message}")
            for parameter, message in (
                ("schema=public", "the driver of the database has no parameter schema"),
                ("keepalives_idle=5", "the driver of the database has no parameter keepalives_idle"),
                ("hostaddr=127.0.0.1", "the driver of the database has no parameter hostaddr"),
                ("channel_binding=require", "the driver of the database can't do channel_binding=require"),
                ("gssencmode=require", "the driver of the database can't do gssencmode=require"),
                ("client_encoding=latin1", "the driver of the database can't do client_encoding=latin1"),
                ("sslmode=banana", "sslmode must be one of disable, allow, prefer, require, verify-ca, verify-full"),
                ("connect_timeout=soon", "connect_timeout must be a number"),
                ("port=99999", "port must be a number"),
                ("sslmode=require&sslmode=disable", "sslmode is there twice"),
                ("sslrootcert=/nowhere", "the file of sslrootcert can't be read: No such file or directory"),
            )
        ),
        (
            {"DATABASE_URL": "postgresql://h/n", "DATABASE_REPLICA_URLS": "postgresql://h/n?foo=1"},
            "DATABASE_REPLICA_URLS: the driver of the database has no parameter foo",
        ),
        ({"DATABASE_URL": "postgresql://h/n", "DATABASE_REPLICA_URLS": "sqlite:///file"}, "DATABASE_REPLICA_URLS must"),
        ({"DATABASE_REPLICA_URLS": "postgresql://h/n"}, "DATABASE_REPLICA_URLS must"),
        ({"READ_FROM_PRIMARY_SECONDS": "3"}, "READ_FROM_PRIMARY_SECONDS: "),
    ],
)
def test_a_bad_setting_is_named_in_one_line(variables: dict[str, str], message: str) -> None:
    """The line shows no secret."""
    with pytest.raises(SettingsError) as refusal:
        load(**variables)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("PORT=9001\n".encode("utf-16"), ".env must be text in UTF-8, and is something else in line 1"),
        ("PORT=9001\n".encode("utf-16-le"), ".env must be text in UTF-8, and is something else in line 1"),
        ("PORT=9001\n# Käfig\n".encode("latin-1"), ".env must be text in UTF-8, and is something else in line 2"),
        (b"PORT=9001\nPORT 9002\n", ".env, line 2: a line is NAME=value"),
        (b"MAIL_FROM=a${x}b@example.org\n", ".env: MAIL_FROM names ${x}, which is not set; in single quotes it"),
    ],
    ids=["utf-16", "utf-16 without a mark", "latin-1", "no equals sign", "unknown name"],
)
def test_a_file_that_cannot_be_understood_is_refused(content: bytes, message: str) -> None:
    ENV_FILE.write_bytes(content)
    for read in (load, database_url, write_first_secret):
        with pytest.raises(SettingsError) as refusal:
            read()
        assert str(refusal.value).startswith(message)
        assert "\n" not in str(refusal.value)


def test_a_file_that_cannot_be_read_is_refused() -> None:
    """A folder in its place, say, which containers make of a file that isn't there."""
    ENV_FILE.mkdir()
    with pytest.raises(SettingsError, match=r"\.env can't be read: Is a directory"):
        load()


@pytest.mark.parametrize(
    "secret",
    [
        "change-me-change-me-change-me-change-me",
        "your-secret-key-here-your-secret-key-here",
        "example-0123456789-abcdefghijklmnop",
        "a" * 64,
        "abcabcabcabcabcabcabcabcabcabcabcabc",
    ],
)
def test_production_refuses_a_secret_that_looks_like_an_example(secret: str) -> None:
    """Development takes it."""
    assert load(SECRET_KEY=secret).secret_key == secret
    with pytest.raises(SettingsError, match="looks like an example"):
        load(SECRET_KEY=secret, ENVIRONMENT="production")


@pytest.mark.parametrize(
    ("origin", "sent"),
    [
        ("https://App.Example.org", "https://app.example.org"),
        ("HTTPS://a.org", "https://a.org"),
        ("https://a.org:443", "https://a.org"),
        ("http://a.org:80", "http://a.org"),
        ("http://a.org:443", "http://a.org:443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("https://Müller.de", "https://xn--mller-kva.de"),
        ("https://straße.de", "https://xn--strae-oqa.de"),
    ],
)
def test_an_origin_is_what_a_browser_sends(origin: str, sent: str) -> None:
    assert load(CORS_ORIGINS=origin).cors_origins == (sent,)


@pytest.mark.parametrize(
    ("sender", "name", "address"),
    [
        ("no-reply@localhost", "", "no-reply@localhost"),
        ("Müller <no-reply@müller.de>", "Müller", "no-reply@xn--mller-kva.de"),
        ("no-reply@straße.de", "", "no-reply@xn--strae-oqa.de"),
        ('"Backend, API" <a@b.org>', "Backend, API", "a@b.org"),
    ],
)
def test_a_sender_has_its_domain_in_ascii(sender: str, name: str, address: str) -> None:
    """Servers without SMTPUTF8 take no other."""
    found = mailbox(load(MAIL_FROM=sender).mail_from)
    assert (found.display_name, found.addr_spec) == (name, address)


def test_production_refuses_every_origin_at_once() -> None:
    """It takes origins that are named."""
    with pytest.raises(SettingsError, match="must name its origins"):
        load(SECRET_KEY=RANDOM, ENVIRONMENT="production", CORS_ORIGINS="https://a.org,*")
    assert load(CORS_ORIGINS="*").cors_origins == ("*",)
    assert load(SECRET_KEY=RANDOM, ENVIRONMENT="production", CORS_ORIGINS="https://a.org").production


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]"])  # noqa: S104 - on purpose
def test_production_on_every_interface_must_know_its_own_address(host: str) -> None:
    """Elsewhere it is the machine that somebody tries it on."""
    assert load(HOST=host).port == 8000
    with pytest.raises(SettingsError, match="PUBLIC_URL is not set, and links in mails can't lead to http://"):
        load(SECRET_KEY=RANDOM, ENVIRONMENT="production", HOST=host)
    assert load(SECRET_KEY=RANDOM, ENVIRONMENT="production", HOST=host, PUBLIC_URL="https://a.org").production


def test_what_is_hardly_meant_so_in_production_is_one_line_each() -> None:
    production = {"SECRET_KEY": RANDOM, "ENVIRONMENT": "production"}
    complete = production | {"PUBLIC_URL": "https://a.org", "SMTP_URL": "smtp://localhost", "MAIL_FROM": "a@b.org"}

    def doubted(**variables: str) -> list[str]:
        return [line.partition(" is not set: ")[0] for line in load(**variables).production_doubts]

    assert doubted(**complete) == []
    assert doubted(**production) == ["PUBLIC_URL", "SMTP_URL"]
    assert doubted(**complete | {"MAIL_FROM": ""}) == ["MAIL_FROM"]


def test_passwords_are_longer_in_production() -> None:
    """The operator may set another length."""
    assert load().effective_password_min_length == 1
    assert load(SECRET_KEY=RANDOM, ENVIRONMENT="production").effective_password_min_length == 12
    assert load(SECRET_KEY=RANDOM, ENVIRONMENT="production", PASSWORD_MIN_LENGTH="8").effective_password_min_length == 8


# The first secret -----------------------------------------------------------------------------------------------------


def test_a_first_run_writes_a_secret_that_only_its_owner_reads() -> None:
    """A later run keeps it."""
    assert write_first_secret()
    assert stat.S_IMODE(ENV_FILE.stat().st_mode) == 0o600
    first = Settings.load({}).secret_key
    assert len(first) >= 64
    assert not write_first_secret()
    assert Settings.load({}).secret_key == first


def test_no_two_first_runs_write_the_same_secret() -> None:
    write_first_secret()
    first = ENV_FILE.read_text()
    ENV_FILE.unlink()
    write_first_secret()
    assert ENV_FILE.read_text() != first


def test_a_secret_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A symbolic link that leads nowhere stands for a folder that can't be written: root may write in any."""
    ENV_FILE.symlink_to(tmp_path / "nowhere" / "file")
    with pytest.raises(SettingsError, match=r"SECRET_KEY is not set, and \.env can't be written: No such file"):
        write_first_secret()


def test_a_file_with_a_secret_is_its_owners_alone() -> None:
    """Also when it was there before, copied from the example; whoever may execute it still may."""
    ENV_FILE.write_text("SECRET_KEY=\n")
    ENV_FILE.chmod(0o644)
    assert write_first_secret()
    assert stat.S_IMODE(ENV_FILE.stat().st_mode) == 0o600
    ENV_FILE.chmod(0o754)
    make_private(ENV_FILE)
    assert stat.S_IMODE(ENV_FILE.stat().st_mode) == 0o700
    make_private(Path("nowhere"))


def numbers() -> Iterator[tuple[str, msgspec.inspect.IntType]]:
    """Every setting that is a number."""
    settings = msgspec.inspect.type_info(Settings)
    assert isinstance(settings, msgspec.inspect.StructType)
    for field in settings.fields:
        kinds = field.type.types if isinstance(field.type, msgspec.inspect.UnionType) else (field.type,)
        yield from ((field.encode_name, kind) for kind in kinds if isinstance(kind, msgspec.inspect.IntType))


@pytest.mark.parametrize(("name", "kind"), list(numbers()))
def test_every_number_has_bounds(name: str, kind: msgspec.inspect.IntType) -> None:
    assert kind.ge is not None
    assert kind.le is not None
    for number in (kind.ge - 1, kind.le + 1, 10**30):
        with pytest.raises(SettingsError, match=f"^{name}: "):
            load(**{name: str(number)})


async def test_the_largest_numbers_work(settings: Settings) -> None:
    """Who signs in and refreshes gets tokens."""
    largest = {name.lower(): kind.le for name, kind in numbers()}
    async with connect_to(create_app(msgspec.structs.replace(settings, **largest))) as client:
        assert (await register(client, "alice", password="x" * 256)).status_code == 201
        login = await log_in(client, "alice", password="x" * 256)
        assert login.status_code == 200
        form = {"grant_type": "refresh_token", "refresh_token": login.json()["refresh_token"]}
        assert (await client.post("/token", data=form)).status_code == 200


@pytest.mark.parametrize("content", ["PORT=9001", "PORT=9001\n", "SECRET_KEY=\nPORT=9001\n", "PORT=9001\nSECRET_KEY="])
def test_a_secret_is_added_to_a_file_that_has_none(content: str) -> None:
    """The other lines stay, also when the last one doesn't end."""
    ENV_FILE.write_text(content)
    assert write_first_secret()
    settings = Settings.load({})
    assert settings.port == 9001
    assert len(settings.secret_key) >= 64


def test_where_there_is_a_secret_none_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", SECRET)
    assert not write_first_secret()
    assert not ENV_FILE.exists()


def test_production_is_given_no_secret_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its servers would have another."""
    monkeypatch.setenv("ENVIRONMENT", "production")
    assert not write_first_secret()
    with pytest.raises(SettingsError, match="SECRET_KEY is not set"):
        Settings.load()


# Mail -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "port", "tls", "start_tls"),
    [
        ("smtp://mail.example.org", 587, False, True),
        ("smtp://mail.example.org:25?starttls=auto", 25, False, None),
        ("smtp://mail?starttls=never", 587, False, False),
        ("smtp://localhost:1025/", 1025, False, None),
        ("smtp://[::1]", 587, False, None),
        ("smtp://127.0.0.1?starttls=required", 587, False, True),
        ("smtps://mail.example.org", 465, True, False),
    ],
)
def test_the_url_of_a_mail_server_says_how_tls_begins(
    url: str, port: int, *, tls: bool, start_tls: bool | None
) -> None:
    server = smtp_server(url)
    assert (server.port, server.tls, server.start_tls) == (port, tls, start_tls)


@pytest.mark.parametrize(
    "url",
    [
        "mail.example.org",
        "http://robot:hidden@mail.example.org",
        "smtp://",
        "smtp://robot:hidden@mail.example.org:port",
        "smtp://robot:hidden@mail.example.org:99999",
        "smtp://robot@mail.example.org",
        "smtp://robot:hid#den@mail.example.org",
        "smtp://mail.example.org/path",
        "smtp://mail.example.org?starttls=perhaps",
        "smtp://mail.example.org?tls=1",
        "smtps://mail.example.org?starttls=never",
    ],
)
def test_a_bad_smtp_url_is_one_line_without_the_password(url: str) -> None:
    with pytest.raises(SettingsError, match="SMTP_URL must be smtp://") as raised:
        load(SMTP_URL=url)
    assert "hid" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["a", "@", "a@", "@b", "a@b, c@d", "A <a@b> x", "A\n<a@b>", "a b@c", "<>"])
def test_a_bad_sender_is_one_line(text: str) -> None:
    with pytest.raises(SettingsError, match="MAIL_FROM must be an address"):
        load(MAIL_FROM=text)


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("no-reply@localhost", "", "no-reply@localhost"),
        ("Acme Inc. <a@example.org>", "Acme Inc.", "a@example.org"),
        ('"Acme, Zoë" <a@example.org>', "Acme, Zoë", "a@example.org"),
    ],
)
def test_a_sender_may_have_a_name(text: str, name: str, address: str) -> None:
    sender = mailbox(text)
    assert (sender.display_name, sender.addr_spec) == (name, address)


# Limits ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["range", "http://api.example.org", "https://", "https://host/?a=b", "ftp://127.0.0.1"])
def test_a_service_of_breached_passwords_is_asked_by_https_alone(url: str) -> None:
    with pytest.raises(SettingsError, match="BREACHED_PASSWORDS_URL"):
        load(BREACHED_PASSWORDS_URL=url)
    for good in ("https://api.example.org/range", "http://127.0.0.1:8080", "http://localhost/range/"):
        assert load(BREACHED_PASSWORDS_URL=good).breached_passwords_url == good


@pytest.mark.parametrize("url", ["memory://", "redis", "redis://", "redis://[", "redis://host:port", "http://host"])
def test_a_storage_that_is_no_redis_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="RATE_LIMIT_STORAGE"):
        load(RATE_LIMIT_STORAGE=url)


@pytest.mark.parametrize("url", ["", "redis://host", "valkeys://user:word@host:6380/1"])
def test_a_redis_or_valkey_is_accepted(url: str) -> None:
    assert load(RATE_LIMIT_STORAGE=url).rate_limit_storage == url
