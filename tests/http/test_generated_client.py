"""A typed client that is generated from the OpenAPI document drives the real service."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.factories import PASSWORD
from tests.programs import run, service

PACKAGE = "generated_client"


@pytest.fixture
def url(tmp_path: Path, free_tcp_port: int) -> Iterator[str]:
    """The URL of the service."""
    with service(tmp_path, free_tcp_port):
        yield f"http://127.0.0.1:{free_tcp_port}"


@pytest.fixture
def visitor(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A generated client that isn't signed in; an answer that the document doesn't have is an error to it."""
    generate(f"{url}/openapi.json", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with part("client").Client(base_url=url, raise_on_unexpected_status=True) as client:
        yield client


def generate(address: str, folder: Path) -> None:
    """Make the client's package in a folder, and check that the generator has nothing to say about the document."""
    (folder / "openapi.json").write_bytes(httpx.get(address).content)
    # Its hooks only lay the code out, with a program that need not be on the path.
    (folder / "config.json").write_text(json.dumps({"post_hooks": []}))
    options = ["--path=openapi.json", "--config=config.json", f"--output-path={PACKAGE}", "--meta=none"]
    made = run(folder, "openapi_python_client", "generate", "--fail-on-warning", *options)
    assert made.returncode == 0, made.stdout + made.stderr
    assert (made.stdout, made.stderr) == (f"Generating {PACKAGE}\n", "")


def part(name: str) -> ModuleType:
    """Return a module of the generated package."""
    return import_module(f"{PACKAGE}.{name}")


@pytest.mark.slow
def test_a_generated_client_drives_the_service(url: str, visitor: Any) -> None:  # noqa: ANN401 - it's made by the test
    """One test does it all, since making a client takes seconds."""
    models = part("models")
    user = models.UserCreate(username="alice", email="alice@example.org", password=PASSWORD)
    assert isinstance(part("api.users.create_user").sync(client=visitor, body=user), models.UserRead)
    login = part("api.authentication.login")
    token = login.sync(client=visitor, body=models.TokenRequest(username="alice", password=PASSWORD))
    assert isinstance(token, models.Token)
    refused = login.sync(client=visitor, body=models.TokenRequest(username="alice", password=PASSWORD + "x"))
    assert isinstance(refused, models.OAuthProblem)
    assert (refused.status, refused.error) == (401, "invalid_grant")

    signed_in = part("client").AuthenticatedClient(url, token=token.access_token, raise_on_unexpected_status=True)
    with signed_in as alice:
        assert_it_works(alice)
        assert_what_fails_is_a_typed_problem(alice, visitor)
        token = assert_a_token_is_made_and_listed(alice)
    with part("client").AuthenticatedClient(url, token=token, raise_on_unexpected_status=True) as script:
        assert_a_token_does_what_its_scopes_say(script)


def assert_a_token_is_made_and_listed(client: Any) -> str:  # noqa: ANN401 - the same
    """Check that an API token is made, with and without an end, and listed without itself; return the first one."""
    models, tokens = part("models"), "api.api_tokens"
    create = part(f"{tokens}.create_api_token").sync
    body = models.ApiTokenCreate(name="Backup", scopes=["items:read", "items:write"])
    made = create(client=client, body=body)
    assert isinstance(made, models.ApiTokenCreated)
    assert (made.scopes, made.expires_at) == (body.scopes, None)
    end = datetime(2099, 1, 31, 12, tzinfo=UTC)
    other = create(client=client, body=models.ApiTokenCreate(name="Report", scopes=["items:read"], expires_at=end))
    assert other.expires_at == end
    listed = part(f"{tokens}.list_api_tokens").sync(client=client)
    assert [token.id for token in listed] == [other.id, made.id]
    assert all(isinstance(token, models.ApiTokenRead) for token in listed)
    assert part(f"{tokens}.end_api_token").sync_detailed(other.id, client=client).status_code == 204
    token: str = made.token
    return token


def assert_a_token_does_what_its_scopes_say(client: Any) -> None:  # noqa: ANN401 - the same
    """Check that a client with an API token creates an item, and is told what it lacks."""
    models = part("models")
    item = part("api.items.create_item").sync(client=client, body=models.ItemCreate(title="Umbrella"))
    assert isinstance(item, models.ItemRead)
    lacking = part("api.users.read_me").sync(client=client)
    assert isinstance(lacking, models.Problem)
    assert (lacking.status, lacking.detail) == (403, "The token lacks the scope account:read")
    own = part("api.api_tokens.list_api_tokens").sync(client=client)
    assert (own.status, own.detail) == (403, "Not allowed with this token")


def assert_it_works(client: Any) -> None:  # noqa: ANN401 - the same
    """Check that an item is created, once for one key, found, read, changed and deleted."""
    models, items = part("models"), "api.items"
    create = part(f"{items}.create_item").sync
    body = models.ItemCreate(title="Umbrella", description="Black")
    item = create(client=client, body=body, idempotency_key="first")
    assert isinstance(item, models.ItemRead)
    assert create(client=client, body=body, idempotency_key="first") == item

    order = models.ListItemsSort.TITLE_DESCENDING
    page = part(f"{items}.list_items").sync_detailed(client=client, limit=1, sort=order, q="umbr", count=True)
    assert (page.parsed, page.headers["X-Total-Count"]) == ([item], "1")

    read = part(f"{items}.read_item").sync_detailed
    answer = read(item.id, client=client)
    assert answer.parsed == item
    tag = answer.headers["ETag"]
    assert read(item.id, client=client, if_none_match=tag).status_code == 304

    change = models.ItemUpdate(description=None)
    answer = part(f"{items}.update_item").sync_detailed(item.id, client=client, body=change, if_match=tag)
    assert (answer.parsed.title, answer.parsed.description) == ("Umbrella", None)
    tag = answer.headers["ETag"]
    assert part(f"{items}.delete_item").sync_detailed(item.id, client=client, if_match=tag).status_code == 204
    assert part(f"{items}.read_item").sync(item.id, client=client).detail == "Item not found"


def assert_what_fails_is_a_typed_problem(client: Any, visitor: Any) -> None:  # noqa: ANN401 - the same
    """Check that each error of an item's operations is an object with its fields."""
    models, items = part("models"), "api.items"
    update, create = part(f"{items}.update_item").sync, part(f"{items}.create_item").sync
    item = create(client=client, body=models.ItemCreate(title="Umbrella"))

    outdated = update(item.id, client=client, body=models.ItemUpdate(title="Parasol"), if_match='"outdated"')
    absent = part(f"{items}.read_item").sync(item.id + 1, client=client)
    invalid = create(client=client, body=models.ItemCreate(title=""))
    unknown = part(f"{items}.list_items").sync(client=visitor)

    problems = [outdated, absent, invalid, unknown]
    assert all(isinstance(problem, models.Problem) for problem in problems)
    assert [problem.status for problem in problems] == [412, 404, 422, 401]
    [error] = invalid.errors
    assert isinstance(error, models.InvalidField)
    assert error.pointer == "/title"
