"""The routes of passkeys, and the grant by which they sign in."""

from collections.abc import Mapping
from typing import Any

from litestar import Controller, Request, Response, delete, patch, post
from litestar.params import FromPath, JSONBody

from app.auth.controller import NO_STORE, required
from app.auth.guard import SignedInRequest, caller, own_session_of
from app.auth.schemas import Token
from app.factors.passkeys.schemas import CreationOptions, PasskeyCreate, PasskeyForm, PasskeyUpdate, RequestOptions
from app.factors.passkeys.service import PasskeyNotFound, PasskeyService, TooManyPasskeys
from app.factors.passkeys.sign_in import PasskeySignIn
from app.factors.schemas import PasskeyRead
from app.http.access import ANY_LEVEL, FRESH, PUBLIC
from app.http.grants import Grant
from app.http.openapi import raises
from app.http.requests import Provided
from app.http.schemas import RowId
from app.security.applications import Application
from app.security.limits import Client
from app.security.second_step import SecondFactorNeeded

Passkeys = Provided[PasskeyService]


def grant_of(sign_in: PasskeySignIn) -> Grant:
    """Return the grant by which a passkey signs in."""

    async def answer(form: Mapping[str, str], client: Client, application: Application | None) -> Token:
        return await sign_in.sign_in(required(form, "credential"), client, form.get("scope"), application)

    return Grant(answer, PasskeyForm)


class PasskeyController(Controller):
    """The caller's passkeys, and the challenges that they sign."""

    tags = ["Second factor"]

    @post(
        "/passkeys/options",
        status_code=200,
        opt=PUBLIC,
        summary="Begin a sign-in by passkey",
    )
    async def request_passkey(
        self, request: Request[Any, Any, Any], passkey_sign_in: Provided[PasskeySignIn]
    ) -> Response[RequestOptions]:
        """Options for `navigator.credentials.get()`, whatever account the device has a passkey of.

        With the token of a session of your own, they are for proving in that session who you are.
        """
        user = await own_session_of(request)
        return Response(await passkey_sign_in.options(user), headers=NO_STORE)

    @post(
        "/users/me/passkeys/options",
        status_code=200,
        opt=ANY_LEVEL | FRESH,
        summary="Begin to add a passkey",
        responses=raises(SecondFactorNeeded, TooManyPasskeys),
    )
    async def begin_passkey(self, request: SignedInRequest, passkeys: Passkeys) -> Response[CreationOptions]:
        """Options for `navigator.credentials.create()`, in this session. Needs a sign-in of the last minutes."""
        return Response(await passkeys.creation_options(request.user), headers=NO_STORE)

    @post(
        "/users/me/passkeys",
        opt=ANY_LEVEL | FRESH,
        summary="Add a passkey",
        responses=raises(SecondFactorNeeded, TooManyPasskeys),
    )
    async def add_passkey(
        self, request: SignedInRequest, passkeys: Passkeys, data: JSONBody[PasskeyCreate]
    ) -> Response[PasskeyRead]:
        """It signs in from now on, without password and code; a mail tells you. An account has at most 20.

        Needs a sign-in of the last minutes.
        """
        added = await passkeys.add(request.user, caller(request), data)
        return Response(added, headers={"Location": "/users/me/factors"})

    @patch(
        "/users/me/passkeys/{passkey_id:int}",
        opt=ANY_LEVEL,
        summary="Rename a passkey",
        responses=raises(PasskeyNotFound),
    )
    async def rename_passkey(
        self,
        request: SignedInRequest,
        passkeys: Passkeys,
        passkey_id: FromPath[RowId],
        data: JSONBody[PasskeyUpdate],
    ) -> PasskeyRead:
        """Only you see the name."""
        return await passkeys.rename(request.user.id, passkey_id, data.name)

    @delete(
        "/users/me/passkeys/{passkey_id:int}",
        opt=ANY_LEVEL | FRESH,
        summary="Remove a passkey",
        responses=raises(SecondFactorNeeded, PasskeyNotFound),
    )
    async def remove_passkey(self, request: SignedInRequest, passkeys: Passkeys, passkey_id: FromPath[RowId]) -> None:
        """It doesn't sign in any more. Sessions that were signed in by a passkey don't count as such any longer.

        Needs a sign-in of the last minutes.
        """
        await passkeys.remove(request.user, caller(request), passkey_id)
