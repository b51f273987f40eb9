"""A typed client that is generated from the OpenAPI document drives the real service."""

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from anyio.pytest_plugin import FreePortFactory

from tests.factories import PASSWORD
from tests.programs import run, service

PACKAGE = "generated_client"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, free_tcp_port_factory: FreePortFactory) -> Iterator[str]:
    """Where the service runs."""
    port = free_tcp_port_factory()
    with service(tmp_path_factory.mktemp("service"), port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module", autouse=True)
def package(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make the client importable; a document that the generator warns of makes none."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "openapi.json").write_bytes(httpx.get(f"{url}/openapi.json").content)
    # Its hooks only lay the code out, by a program that need not be on the path.
    (folder / "config.json").write_text(json.dumps({"post_hooks": []}))
    generate(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


def generate(folder: Path) -> None:
    """Make the package from the document in a folder, with no complaint."""
    options = ["--path=openapi.json", f"--output-path={PACKAGE}", "--config=config.json", "--meta=none"]
    made = run(folder, "openapi_python_client", "generate", "--fail-on-warning", *options)
    assert made.returncode == 0, made.stdout + made.stderr
    assert (made.stdout, made.stderr) == (f"Generating {PACKAGE}\n", "")


def part(name: str) -> ModuleType:
    """A module of the generated client."""
    return import_module(f"{PACKAGE}.{name}")


@pytest.fixture(scope="module")
def alice(url: str, package: None) -> object:  # noqa: ARG001 - it's what this imports
    """A client that has registered and logged in; an answer that the document doesn't have is an error to it."""
    client, models = part("client"), part("models")
    visitor = client.Client(base_url=url, raise_on_unexpected_status=True)
    user = models.UserCreate(username="alice", email="alice@example.org", password=PASSWORD)
    registered = part("api.users.create_user").sync(client=visitor, body=user)
    assert isinstance(registered, models.UserRead)
    form = models.TokenRequest(username="alice", password=PASSWORD)
    token = part("api.authentication.login").sync(client=visitor, body=form)
    assert isinstance(token, models.Token)
    return client.AuthenticatedClient(base_url=url, token=token.access_token, raise_on_unexpected_status=True)


def test_it_creates_lists_reads_changes_and_deletes(alice: object) -> None:
    models, items = part("models"), "api.items"
    body = models.ItemCreate(title="Umbrella", description="Black")
    create = part(f"{items}.create_item")
    created = create.sync(client=alice, body=body, idempotency_key="first")
    assert create.sync(client=alice, body=body, idempotency_key="first") == created
    assert isinstance(created, models.ItemRead)

    order = models.ListItemsSort("-title")
    page = part(f"{items}.list_items").sync_detailed(client=alice, limit=1, sort=order, q="umbr", count=True)
    assert page.parsed == [created]
    assert page.headers["X-Total-Count"] == "1"

    read = part(f"{items}.read_item").sync_detailed(created.id, client=alice)
    assert read.parsed == created
    tag = read.headers["ETag"]
    assert part(f"{items}.read_item").sync_detailed(created.id, client=alice, if_none_match=tag).status_code == 304

    change = models.ItemUpdate(description=None)
    changed = part(f"{items}.update_item").sync_detailed(created.id, client=alice, body=change, if_match=tag)
    assert (changed.parsed.title, changed.parsed.description) == ("Umbrella", None)

    tag = changed.headers["ETag"]
    assert part(f"{items}.delete_item").sync_detailed(created.id, client=alice, if_match=tag).status_code == 204


def test_what_fails_is_a_typed_problem(alice: object, url: str) -> None:
    models, items = part("models"), "api.items"
    created = part(f"{items}.create_item").sync(client=alice, body=models.ItemCreate(title="Umbrella"))

    body = models.ItemUpdate(title="Parasol")
    outdated = part(f"{items}.update_item").sync(created.id, client=alice, body=body, if_match='"outdated"')
    absent = part(f"{items}.read_item").sync(created.id + 1, client=alice)
    invalid = part(f"{items}.create_item").sync(client=alice, body=models.ItemCreate(title=""))
    unknown = part(f"{items}.list_items").sync(client=part("client").Client(base_url=url))

    problems = [outdated, absent, invalid, unknown]
    assert all(isinstance(problem, models.Problem) for problem in problems)
    assert [problem.status for problem in problems] == [412, 404, 422, 401]
    assert absent.detail == "Item not found"
    [error] = invalid.errors
    assert isinstance(error, models.InvalidField)
    assert error.pointer == "/title"


def test_a_refused_login_is_a_typed_error_of_oauth(url: str) -> None:
    models = part("models")
    form = models.TokenRequest(username="nobody", password=PASSWORD)
    refused = part("api.authentication.login").sync(client=part("client").Client(base_url=url), body=form)
    assert isinstance(refused, models.OAuthProblem)
    assert (refused.status, refused.error) == (401, "invalid_grant")
