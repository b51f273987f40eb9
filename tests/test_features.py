"""A feature is one line: without it, the rest of the service is whole."""

import json
from collections.abc import Iterator
from importlib import import_module

import pytest
from litestar import Router

from app.http.feature import Parts
from app.main import FEATURES, create_app
from app.settings import Settings
from tests.factories import client_of, connect_to, log_in, register
from tests.test_layout import BASE_FEATURE, imports, modules, room_of


def names() -> list[str]:
    """Return the names of the features, in their order."""
    return [feature.__module__.split(".")[1] for feature in FEATURES]


def built_on() -> Iterator[str]:
    """Yield the features that others import, other than their tables.

    A module of pages that has a feature's name is imported only where the application has the feature.
    """
    own_pages = {f"app.pages.{name}" for name in names()}
    for module in modules():
        if room_of(module) in names() and module not in own_pages:
            imported = [name for name in imports(module) if room_of(name) in set(names()) - {room_of(module)}]
            yield from (room_of(name) for name in imported if name.split(".")[2] != "models")


def removable() -> list[str]:
    """Return the features that can be taken out: nobody builds on them, nor do people sign in without accounts."""
    return [name for name in names() if name not in {BASE_FEATURE, "users", *built_on()}]


def test_some_feature_can_be_taken_out() -> None:
    assert "items" in removable()


@pytest.mark.parametrize("name", removable())
async def test_without_a_feature_the_rest_starts_documents_itself_and_works(name: str, settings: Settings) -> None:
    left_out = import_module(f"app.{name}.feature").feature
    brought = left_out(Parts(settings))
    app = create_app(settings, [feature for feature in FEATURES if feature is not left_out])
    async with connect_to(app) as client:
        document = (await client.get("/openapi.json")).json()
        sections = {tag["name"] for tag in document["tags"]}
        assert sections.isdisjoint(tag.name for tag in brought.tags)
        used = {tag for path in document["paths"].values() for operation in path.values() for tag in operation["tags"]}
        assert used == sections
        assert dangling(document) == set()
        assert (await client.get("/docs")).status_code == 200
        registered = await register(client, "alice")
        token = (await log_in(client, "alice")).json()["access_token"]
        alice = client_of(app, Authorization=f"Bearer {token}")
        assert (await alice.get("/users/me")).json() == registered.json()
        for route in Router("/", route_handlers=brought.routes).routes:
            assert (await alice.get(route.path_format.format_map(Ones()))).status_code == 404, route.path_format
        assert (await alice.delete("/users/me")).status_code == 204


class Ones(dict[str, str]):
    """A value for each parameter of a path."""

    def __missing__(self, name: str) -> str:
        """Return the same for all."""
        return "1"


def dangling(document: dict[str, object]) -> set[str]:
    """Return the references of a document that lead nowhere."""
    text = json.dumps(document)
    named = {part.split('"')[0] for part in text.split('"$ref": "#/components/')[1:]}
    components = document["components"]
    assert isinstance(components, dict)
    there = {f"{kind}/{name}" for kind, members in components.items() for name in members}
    return named - there


def test_two_features_with_one_name_for_two_things_are_refused(sqlite_url: str) -> None:
    """If they were not, the later one would silently take the other's place."""
    settings = Settings(secret_key="9d5ae5f10c1b4a6cbe1e3a2c7f5d8b90", database_url=sqlite_url)
    with pytest.raises(ValueError, match="same name: account"):
        create_app(settings, [*FEATURES, *FEATURES])
