"""The routes of applications, and of what people have granted them."""

from collections.abc import Mapping
from typing import Any

from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.datastructures import State
from litestar.di import Provide
from litestar.params import FromPath, JSONBody
from msgspec import convert, structs

from app.auth.controller import MAX_FORM_BYTES, NO_STORE, Form, authorization_of, read_form, required
from app.auth.guard import SignedInRequest, caller
from app.auth.schemas import Token
from app.auth.scopes import InvalidScope
from app.auth.service import InvalidClient, UnauthorizedClient
from app.errors import OAuthError
from app.http.access import FORM_KEY, LENIENT, PUBLIC, SUPERUSER
from app.http.grants import Grant
from app.http.openapi import raises
from app.http.requests import InTransaction, Provided
from app.http.schemas import RowId
from app.oauth.client_credentials import ClientCredentialsService
from app.oauth.clients import ClientService, NoSecret
from app.oauth.codes.service import CodeService, Exchange
from app.oauth.devices.service import DeviceService
from app.oauth.grants import GrantNotFound, GrantService
from app.oauth.introspection import IntrospectionService
from app.oauth.repository import ClientNotFound, StoredClient
from app.oauth.schemas import (
    ClientCreate,
    ClientRead,
    ClientSecret,
    ClientUpdate,
    CodeForm,
    CredentialsForm,
    DeviceAuthorization,
    DeviceAuthorizationRequest,
    DeviceForm,
    GrantRead,
    Introspection,
    IntrospectionRequest,
)
from app.security.applications import Application
from app.security.limits import Client

Clients = Provided[ClientService]
Grants = Provided[GrantService]


class ClientController(Controller):
    """The applications that may sign people in, for superusers."""

    path = "/clients"
    tags = ["Applications"]
    opt = SUPERUSER

    @post("/", summary="Register an application")
    async def create_client(
        self, request: SignedInRequest, clients: Clients, data: JSONBody[ClientCreate]
    ) -> Response[ClientRead]:
        """A confidential one gets a secret, which is shown this once."""
        registered = await clients.create(data, caller(request))
        headers = {**NO_STORE, "Location": f"/clients/{registered.client.id}"}
        return Response(to_read(registered.client, registered.secret), headers=headers)

    @get("/", summary="List the applications")
    async def list_clients(self, clients: Clients) -> list[ClientRead]:
        """All that are registered, the oldest first."""
        return [to_read(client) for client in await clients.all()]

    @get("/{application_id:int}", summary="Read an application", responses=raises(ClientNotFound))
    async def read_client(self, clients: Clients, application_id: FromPath[RowId]) -> ClientRead:
        """One application, without its secret."""
        return to_read(await clients.read(application_id))

    @patch("/{application_id:int}", summary="Change an application", responses=raises(ClientNotFound))
    async def update_client(
        self,
        request: SignedInRequest,
        clients: Clients,
        application_id: FromPath[RowId],
        data: JSONBody[ClientUpdate],
    ) -> ClientRead:
        """Absent fields keep their value. Scopes that it loses, it has no more at its next refresh."""
        return to_read(await clients.update(application_id, data, caller(request)))

    @delete("/{application_id:int}", summary="Remove an application", responses=raises(ClientNotFound))
    async def delete_client(self, request: SignedInRequest, clients: Clients, application_id: FromPath[RowId]) -> None:
        """All its tokens end at once, and what people have granted it is forgotten."""
        await clients.delete(application_id, caller(request))

    @post(
        "/{application_id:int}/secret",
        summary="Give an application a new secret",
        responses=raises(ClientNotFound, NoSecret),
    )
    async def create_client_secret(
        self, request: SignedInRequest, clients: Clients, application_id: FromPath[RowId]
    ) -> Response[ClientSecret]:
        """The secret before it is good for another day."""
        secret = await clients.new_secret(application_id, caller(request))
        return Response(ClientSecret(secret), headers={**NO_STORE, "Location": f"/clients/{application_id}"})


class GrantController(Controller):
    """The applications that the caller has granted something."""

    path = "/users/me/grants"
    tags = ["Applications"]

    @get("/", summary="List the applications that may act for you")
    async def list_grants(self, request: SignedInRequest, grants: Grants) -> list[GrantRead]:
        """Each with what you have granted it, the oldest first."""
        return await grants.all(request.user.id)

    @delete("/{grant_id:int}", summary="End what an application may do", responses=raises(GrantNotFound))
    async def end_grant(
        self, request: SignedInRequest, grants: Grants, transaction: InTransaction, grant_id: FromPath[RowId]
    ) -> None:
        """Its tokens fail from now on, and it has to ask you again."""
        await grants.end(transaction, caller(request), grant_id)


def to_read(client: StoredClient, secret: str | None = None) -> ClientRead:
    """Return an application as superusers see it."""
    lists = {
        "redirect_uris": client.redirect_uris.split(),
        "grant_types": client.grant_types.split(),
        "scopes": client.scope.split(),
    }
    shown = {**structs.asdict(client), **lists, **({"client_secret": secret} if secret else {})}
    return convert(shown, ClientRead)


class ProtocolController(Controller):
    """The endpoints that applications call by themselves, beside the token endpoint."""

    tags = ["Applications"]
    opt = PUBLIC | LENIENT

    @post(
        "/introspect",
        status_code=200,
        opt={FORM_KEY: IntrospectionRequest},
        dependencies={"form": Provide(read_form)},
        request_max_body_size=MAX_FORM_BYTES,
        summary="Learn about a token",
        responses=raises(OAuthError, InvalidClient),
    )
    async def introspect(
        self,
        request: Request[Any, Any, Any],
        introspection: Provided[IntrospectionService],
        state: State,
        form: Form,
    ) -> Response[Introspection]:
        """For applications that have a secret, about any access token that they hold (RFC 7662)."""
        application = known(await state.parts.applications.authenticate(form, authorization_of(request)))
        return Response(await introspection.about(required(form, "token"), application), headers=NO_STORE)


class DeviceController(Controller):
    """The endpoint of devices, which is there where a page takes the code that they show."""

    tags = ["Applications"]
    opt = PUBLIC | LENIENT

    @post(
        "/device_authorization",
        status_code=200,
        opt={FORM_KEY: DeviceAuthorizationRequest},
        dependencies={"form": Provide(read_form)},
        request_max_body_size=MAX_FORM_BYTES,
        summary="Begin to wait, as a device without a browser",
        responses=raises(OAuthError, InvalidClient, InvalidScope, UnauthorizedClient),
    )
    async def authorize_device(
        self, request: Request[Any, Any, Any], devices: Provided[DeviceService], state: State, form: Form
    ) -> Response[DeviceAuthorization]:
        """The device shows the code to a person, who types it elsewhere, and asks meanwhile (RFC 8628)."""
        application = known(await state.parts.applications.authenticate(form, authorization_of(request)))
        waiting = await devices.begin(application, form.get("scope"))
        url = f"{state.parts.account_url}/device"
        code = f"{waiting.user_code[:4]}-{waiting.user_code[4:]}"
        answer = DeviceAuthorization(
            device_code=waiting.device_code,
            user_code=code,
            verification_uri=url,
            verification_uri_complete=f"{url}?code={code}",
            expires_in=waiting.expires_in,
            interval=waiting.interval,
        )
        return Response(answer, headers=NO_STORE)


def known(application: Application | None) -> StoredClient:
    """Return the application that sends a form. Raise InvalidClient where none is known by it."""
    if not isinstance(application, StoredClient):
        raise InvalidClient
    return application


def code_grant(codes: CodeService) -> Grant:
    """Return the grant by which an application gets tokens for a code."""

    async def answer(form: Mapping[str, str], client: Client, application: Application | None) -> Token:
        holder = known(application)
        data = Exchange(required(form, "code"), required(form, "redirect_uri"), required(form, "code_verifier"))
        return await codes.exchange(data, holder, client)

    return Grant(answer, CodeForm)


def credentials_grant(credentials: ClientCredentialsService) -> Grant:
    """Return the grant by which an application gets a token of its own."""

    async def answer(form: Mapping[str, str], client: Client, application: Application | None) -> Token:
        return await credentials.issue(known(application), form.get("scope"), client)

    return Grant(answer, CredentialsForm)


def device_grant(devices: DeviceService) -> Grant:
    """Return the grant by which a device gets its tokens, once a person has let it in."""

    async def answer(form: Mapping[str, str], client: Client, application: Application | None) -> Token:
        return await devices.exchange(required(form, "device_code"), known(application), client)

    return Grant(answer, DeviceForm)
