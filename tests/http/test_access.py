"""Rights on routes: a route's options say who may call it; the guard, the document and the table of routes follow."""

import re
from collections import Counter
from typing import Any

import pytest
from httpx import AsyncClient
from litestar import Controller, Litestar, get
from litestar.params import FromPath

from app.http.access import PUBLIC, SUPERUSER, SUPERUSER_OR_SELF
from app.http.feature import Feature, Parts
from app.main import FEATURES, create_app
from app.operations.commands import route_table, routes
from app.settings import Settings
from tests.factories import People, connect_to, on_sqlite
from tests.problems import assert_problem

ONLY = "Only superusers may do this"
UNAUTHORIZED = {"$ref": "#/components/responses/Unauthorized"}
STALE = {"$ref": "#/components/responses/StaleSignIn"}
CALLERS = ("nobody", "stranger", "self", "superuser")
# What each of them is answered before anybody looks at the rest of the request; None stands for whatever comes then.
# A path's `user_id` is the id of the one who is called `self`.
REFUSALS: dict[str, dict[str, int | None]] = {
    "public": {"nobody": None, "stranger": None, "self": None, "superuser": None},
    "signed in": {"nobody": 401, "stranger": None, "self": None, "superuser": None},
    "signed in, fresh": {"nobody": 401, "stranger": None, "self": None, "superuser": None},
    "superuser": {"nobody": 401, "stranger": 403, "self": 403, "superuser": None},
    "superuser or self": {"nobody": 401, "stranger": 403, "self": None, "superuser": None},
}


class Callers:
    """One client of each kind, and the id of the user who is called `self`."""

    def __init__(self, clients: dict[str, AsyncClient], user_id: int) -> None:
        self.clients = clients
        self.user_id = user_id

    @classmethod
    async def of(cls, people: People) -> "Callers":
        """Sign one of each kind in to an application."""
        names = {"stranger": False, "self": False, "superuser": True}
        clients = {name: await people.sign_in(name, is_superuser=rights) for name, rights in names.items()}
        user_id = (await clients["self"].get("/users/me")).json()["id"]
        return cls({"nobody": people.client, **clients}, user_id)

    def path(self, template: str) -> str:
        """Return a route's path, with the id of the user who is called `self`."""
        return re.sub(r"\{.*?\}", "1", template.replace("{user_id}", str(self.user_id)))


@pytest.fixture
async def callers(people: People) -> Callers:
    """Return callers of the application."""
    return await Callers.of(people)


async def operations(client: AsyncClient) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the document's operations, by method and path."""
    paths = (await client.get("/openapi.json")).json()["paths"]
    return {(method.upper(), path): found for path, methods in paths.items() for method, found in methods.items()}


# The application's own routes -----------------------------------------------------------------------------------------


@on_sqlite
async def test_every_route_refuses_whom_its_right_leaves_out(app: Litestar, callers: Callers) -> None:
    """A caller who is let in gets no further than a query parameter that no route knows."""
    table = routes(app)
    assert Counter(access for _, _, access, _ in table).keys() == REFUSALS.keys()
    for method, template, access, _ in table:
        for name in CALLERS:
            answer = await callers.clients[name].request(method, callers.path(template), params={"unknown": "1"})
            refusal = answer.status_code if answer.status_code in {401, 403} else None
            assert refusal == REFUSALS[access][name], (method, template, name)
            if refusal == 403:
                assert_problem(answer, 403, ONLY)


@on_sqlite
async def test_the_document_says_whom_a_route_refuses(app: Litestar, client: AsyncClient) -> None:
    """An operation that needs a caller has a 401 and a 403, and a padlock with the scope that it needs."""
    documented = await operations(client)
    options = {(method, path): (access, scope) for method, path, access, scope in routes(app)}
    assert documented.keys() <= options.keys()
    for route, operation in documented.items():
        access, scope = options[route]
        guarded = access != "public"
        refusal = STALE if access.endswith("fresh") else UNAUTHORIZED
        assert (operation["responses"].get("401") == refusal) == guarded, route
        assert "403" in operation["responses"] or not guarded, route
        assert operation["security"] == ([{"OAuth2": [scope] if scope else []}] if guarded else []), route


@on_sqlite
async def test_superusers_alone_have_the_accounts_of_others(app: Litestar, client: AsyncClient) -> None:
    """A route on accounts that is added for superusers, or loses its option, has to be changed here too."""
    assert client.base_url.host == "test"  # The application runs, and has its routes.
    on_accounts = [(method, path, access) for method, path, access, _ in routes(app) if path.startswith("/users")]
    assert {(method, path): access for method, path, access in on_accounts if access.startswith("superuser")} == {
        ("GET", "/users"): "superuser",
        ("GET", "/users/{user_id}"): "superuser or self",
        ("PATCH", "/users/{user_id}"): "superuser",
        ("DELETE", "/users/{user_id}"): "superuser",
    }


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("GET", "/users", {"params": {"unknown": "1"}}),
        ("GET", "/users", {"params": {"cursor": "forged"}}),
        ("GET", "/users/12345", {}),
        ("GET", "/users/0", {}),
        ("PATCH", "/users/12345", {"json": {"unknown": 1}}),
        ("PATCH", "/users/12345", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        ("PATCH", "/users/12345", {"content": b"x", "headers": {"Content-Type": "text/plain"}}),
        ("DELETE", f"/users/{2**63}", {}),
    ],
)
async def test_who_has_no_right_learns_nothing_else(
    alice: AsyncClient, method: str, path: str, sent: dict[str, Any]
) -> None:
    """The answer tells neither whether anything is there nor what is wrong with the request."""
    assert_problem(await alice.request(method, path, **sent), 403, ONLY)


async def test_ones_own_id_is_written_in_one_way(alice: AsyncClient) -> None:
    """Other spellings of the id are not found."""
    assert (await alice.get("/users/1")).status_code == 200
    for spelling in ("01", "+1", "%201", "%D9%A1"):
        assert_problem(await alice.get(f"/users/{spelling}"), 404, "There is nothing at this path")


# The routes of another feature ----------------------------------------------------------------------------------------


class Sample(Controller):
    """A controller with a route for each right."""

    path = "/samples"

    @get("/public", opt=PUBLIC, summary="For everybody")
    async def everybody(self) -> str:
        """Answer anybody."""
        return "welcome"

    @get("/signed-in", summary="For people")
    async def somebody(self) -> str:
        """Answer whoever is signed in."""
        return "welcome"

    @get("/superuser", opt=SUPERUSER, summary="For superusers")
    async def superuser(self) -> str:
        """Answer superusers."""
        return "welcome"

    @get("/{user_id:int}", opt=SUPERUSER_OR_SELF, summary="For superusers and oneself")
    async def oneself(self, user_id: FromPath[int]) -> str:
        """Answer superusers, and the user who has that id."""
        return f"welcome, {user_id}"


ROUTES = {
    "/samples/public": "public",
    "/samples/signed-in": "signed in",
    "/samples/superuser": "superuser",
    "/samples/{user_id}": "superuser or self",
}


def sample(_parts: Parts) -> Feature:
    """Return a feature that has those routes and nothing else."""
    return Feature(routes=[Sample])


async def test_a_feature_says_who_may_call_its_routes_and_does_no_more(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """The guard, the document and the table of routes follow from the route's options."""
    app = create_app(settings, [*FEATURES, sample])
    async with connect_to(app) as client:
        callers = await Callers.of(People(app, client))
        documented = await operations(client)
        for path, access in ROUTES.items():
            answers = {name: await callers.clients[name].get(callers.path(path)) for name in CALLERS}
            statuses = {name: answer.status_code for name, answer in answers.items()}
            assert statuses == {name: refusal or 200 for name, refusal in REFUSALS[access].items()}, path
            responses = documented["GET", path]["responses"]
            guarded = 401 in statuses.values()
            assert ("401" in responses, "403" in responses) == (guarded, guarded), path
    capsys.readouterr()
    assert route_table.callback
    route_table.callback(app)
    table = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert {path: access for _, path, access in table if path in ROUTES} == ROUTES
