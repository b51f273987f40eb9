"""TLS to PostgreSQL, by libpq's parameters in DATABASE_URL."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy.exc import SQLAlchemyError

from app.database.status import REVISION
from tests.factories import open_database

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl, which makes the certificates, is not installed")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Two certificates that sign themselves, both for `localhost`; their keys are beside them."""
    folder = tmp_path_factory.mktemp("certificates")
    paths = {name: folder / f"{name}.crt" for name in ("own", "other")}
    for path in paths.values():
        key = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(path.with_suffix(".key")), "-out", str(path)]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        subprocess.run([str(OPENSSL), "req", "-x509", *key, *names], check=True, capture_output=True)
    return paths


@pytest.mark.parametrize(
    ("host", "parameters", "is_believed"),
    [
        ("127.0.0.1", "sslmode=require", True),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert={own}", True),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert={own}", False),
        ("localhost", "sslmode=verify-full&sslrootcert={own}", True),
        ("localhost", "sslmode=verify-ca&sslrootcert={other}", False),
        ("localhost", "sslrootcert=system", False),
    ],
)
async def test_a_server_must_be_who_the_url_says(
    certificates: Mapping[str, Path], free_tcp_port: int, host: str, parameters: str, *, is_believed: bool
) -> None:
    """A certificate that nobody vouches for, and one of another name, end the connection where the mode asks so."""
    own = certificates["own"]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own, own.with_suffix(".key"))
    believed: list[bool] = []

    async def shake_hands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)  # PostgreSQL's SSLRequest
        writer.write(b"S")
        with suppress(OSError):
            await writer.start_tls(context)
            # In TLS 1.3 a client that refuses the certificate says so after the server's part is done.
            believed.append(bool(await reader.read(1)))
        writer.close()

    url = f"postgresql://u@{host}:{free_tcp_port}/n?{parameters.format(**certificates)}"
    async with await asyncio.start_server(shake_hands, "127.0.0.1", free_tcp_port), open_database(url) as database:
        with pytest.raises((SQLAlchemyError, OSError)) as failure:
            await database.fetch(REVISION, {})
    assert any(believed) == is_believed
    assert ("certificate verify failed" in str(failure.value)) != is_believed
