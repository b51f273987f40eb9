"""The routes of authenticator apps, recovery codes, and the list of all second factors."""

from litestar import Controller, Response, delete, get, post
from litestar.params import JSONBody
from msgspec import UNSET

from app.auth.controller import NO_STORE
from app.auth.guard import SignedInRequest, caller
from app.errors import InvalidField, InvalidFields, TooManyRequests
from app.factors.listing import FactorList
from app.factors.reauthentication import Reauthentication, WrongProof
from app.factors.schemas import FactorsRead, Proof, RecoveryCodes, TotpConfirmation, TotpSecret
from app.factors.service import NoSecondFactor, NothingPending, TotpActive, TotpService
from app.http.access import ANY_LEVEL, FRESH, OAUTH_ERRORS_KEY
from app.http.openapi import raises
from app.http.requests import Provided
from app.security.second_step import MfaRequired, SecondFactorNeeded, WrongCode

Totp = Provided[TotpService]


class FactorController(Controller):
    """The caller's second factors."""

    tags = ["Second factor"]

    @get("/users/me/factors", opt=ANY_LEVEL, summary="List your second factors")
    async def list_factors(self, request: SignedInRequest, factor_list: Provided[FactorList]) -> FactorsRead:
        """Your authenticator app, how many recovery codes are left, and your passkeys."""
        return await factor_list.read(request.user.id)

    @post(
        "/users/me/totp",
        opt=ANY_LEVEL | FRESH,
        summary="Add an authenticator app",
        responses=raises(TotpActive, SecondFactorNeeded),
    )
    async def add_totp(self, request: SignedInRequest, totp: Totp) -> Response[TotpSecret]:
        """Shows the secret for the app, this once. It is no second factor before its first code has confirmed it.

        Again, it replaces a secret that wasn't confirmed. Needs a sign-in of the last minutes.
        """
        secret = await totp.begin(request.user)
        return Response(secret, headers={**NO_STORE, "Location": "/users/me/factors"})

    @post(
        "/users/me/totp/confirm",
        status_code=200,
        opt=ANY_LEVEL,
        summary="Confirm an authenticator app",
        responses=raises(NothingPending, SecondFactorNeeded, WrongCode, TooManyRequests),
    )
    async def confirm_totp(
        self, request: SignedInRequest, totp: Totp, data: JSONBody[TotpConfirmation]
    ) -> Response[RecoveryCodes]:
        """From now on, sign-ins need a code. Shows ten recovery codes, this once; every other session ends."""
        codes = await totp.confirm(request.user, caller(request), data.code)
        return Response(RecoveryCodes(codes), headers=NO_STORE)

    @post(
        "/users/me/recovery-codes",
        status_code=200,
        opt=ANY_LEVEL | FRESH,
        summary="Replace your recovery codes",
        responses=raises(NoSecondFactor, SecondFactorNeeded),
    )
    async def replace_recovery_codes(self, request: SignedInRequest, totp: Totp) -> Response[RecoveryCodes]:
        """Shows ten new ones, this once; the old ones are void. Needs a sign-in of the last minutes."""
        return Response(RecoveryCodes(await totp.replace_codes(request.user, caller(request))), headers=NO_STORE)

    @delete(
        "/users/me/totp",
        opt=ANY_LEVEL | FRESH,
        summary="Remove your authenticator app",
        responses=raises(NoSecondFactor, SecondFactorNeeded),
    )
    async def remove_totp(self, request: SignedInRequest, totp: Totp) -> None:
        """Its recovery codes go, too, and no sign-in needs a code. Needs a sign-in of the last minutes."""
        await totp.remove(request.user, caller(request))

    @post(
        "/users/me/reauthentication",
        status_code=204,
        opt=ANY_LEVEL | {OAUTH_ERRORS_KEY: [MfaRequired]},
        summary="Prove who you are",
        responses=raises(WrongProof, TooManyRequests),
    )
    async def reauthenticate(
        self, request: SignedInRequest, reauthentication: Provided[Reauthentication], data: JSONBody[Proof]
    ) -> None:
        """Makes this session fresh again, for what needs a sign-in of the last minutes.

        Takes `password`, with `otp` where you have a second factor, or `credential`.
        """
        if (data.password is UNSET) == (data.credential is UNSET):
            raise InvalidFields(InvalidField("", "needs either password or credential"))
        who = caller(request)
        if data.credential is not UNSET:
            await reauthentication.by_passkey(request.user, who, data.credential)
        elif data.password is not UNSET:
            await reauthentication.by_password(request.user, who, data.password, data.otp or None)
