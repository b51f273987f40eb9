"""The rules by which a device without a keyboard or a browser is let in from elsewhere (RFC 8628)."""

import re
import secrets
from datetime import datetime, timedelta

from limits import RateLimitItemPerMinute
from msgspec import Struct

from app.auth.caller import Caller, SignedIn
from app.auth.repository import CredentialRepository
from app.auth.schemas import Token
from app.auth.scopes import narrow, read_scope
from app.auth.service import AuthService, InvalidClient, NewSession, UnauthorizedClient
from app.database.models import now
from app.database.sessions import retry_on_deadlock
from app.errors import BadRequest, OAuthError
from app.oauth.clients import DEVICE_GRANT
from app.oauth.devices.repository import DeviceRepository, StoredDevice
from app.oauth.grants import GrantService
from app.oauth.repository import ClientNotFound, StoredClient
from app.security.limits import Client, Limits, account_of_id
from app.security.random_tokens import base62, digest

CONSONANTS = "BCDFGHJKLMNPQRSTVWXZ"
"""They make no words, and are on every keyboard (RFC 8628, section 6.1)."""
USER_CODE_LENGTH = 8
NOT_CONSONANTS = re.compile(f"[^{CONSONANTS}]")
DEVICE_CODE_LENGTH = 43
LIFETIME = timedelta(minutes=10)
INTERVAL = 5
WRONG_CODES = RateLimitItemPerMinute(10, 15, namespace="wrong-device-codes")
"""Counted by the person who types them."""


class AuthorizationPending(OAuthError):
    """The person hasn't answered yet."""

    error = "authorization_pending"
    detail = "The person hasn't answered yet"


class SlowDown(OAuthError):
    """The device asks more often than it may; from now on it has to wait five seconds longer."""

    error = "slow_down"
    detail = "The device asks too often"


class DeviceCodeExpired(OAuthError):
    """Nobody has answered in time, or the code was never one."""

    error = "expired_token"
    detail = "The device code is invalid or expired"


class AccessDenied(OAuthError):
    """The person has said no."""

    error = "access_denied"
    detail = "The person has said no"


class UnknownUserCode(BadRequest):
    """No device waits with that code, or the person has answered already."""

    detail = "No device waits with this code"


class Waiting(Struct, frozen=True):
    """The codes of a device that waits, and how long it may."""

    device_code: str
    user_code: str
    expires_in: int
    interval: int


class DeviceService:
    """The service that lets devices in."""

    def __init__(
        self,
        devices: DeviceRepository,
        grants: GrantService,
        credentials: CredentialRepository,
        auth: AuthService,
        limits: Limits,
    ) -> None:
        self.database = devices.database
        self.devices = devices
        self.grants = grants
        self.credentials = credentials
        self.auth = auth
        self.limits = limits

    async def begin(self, application: StoredClient, scope: str | None) -> Waiting:
        """Return the codes with which a device waits. Raise UnauthorizedClient and InvalidScope."""
        if not application.may(DEVICE_GRANT):
            raise UnauthorizedClient
        granted = narrow(application.scope, read_scope(scope, self.auth.scopes)) or ""
        device_code = base62(DEVICE_CODE_LENGTH)
        user_code = "".join(secrets.choice(CONSONANTS) for _ in range(USER_CODE_LENGTH))
        columns = {
            "digest": digest(device_code),
            "user_code": user_code,
            "client_row_id": application.id,
            "scope": granted,
            "interval": INTERVAL,
            "asked_at": now(),
            "expires_at": now() + LIFETIME,
        }
        try:
            async with self.database.transaction() as transaction:
                await self.devices.create(transaction, columns)
        except ClientNotFound:
            raise InvalidClient from None
        return Waiting(device_code, user_code, int(LIFETIME.total_seconds()), INTERVAL)

    async def find(self, typed: str, user: SignedIn) -> StoredDevice:
        """Return the device that waits with a code, however the code was typed.

        Raise UnknownUserCode, which counts as a wrong guess, and TooManyRequests: also for a right code, when so many
        guesses at once were wrong meanwhile.
        """
        account = account_of_id(user.id)
        await self.limits.check(WRONG_CODES, account)
        code = NOT_CONSONANTS.sub("", typed[:100].upper())
        device = await self.devices.waiting(code, now()) if len(code) == USER_CODE_LENGTH else None
        if device is None:
            await self.limits.hit(WRONG_CODES, account)
            raise UnknownUserCode
        await self.limits.check(WRONG_CODES, account)
        return device

    @retry_on_deadlock
    async def answer(self, device: StoredDevice, user: SignedIn, client: Client, *, is_allowed: bool) -> None:
        """Let a device in, or not; the first answer counts. Raise UnknownUserCode and SessionEnded."""
        async with self.database.transaction() as transaction:
            if not await self.credentials.lock_active(transaction, user.id, None):
                raise UnknownUserCode
            columns: dict[str, object] = {"is_allowed": is_allowed}
            if is_allowed:
                try:
                    application = await self.grants.clients.read(device.client_row_id, transaction)
                    grant_id = await self.grants.give(
                        transaction, Caller(user.id, user.session_id, client), application, device.scope
                    )
                except ClientNotFound:
                    raise UnknownUserCode from None
                columns |= {"grant_id": grant_id, "approved_in": user.session_id}
                columns |= {"amr": user.amr, "authenticated_at": user.authenticated_at}
            if not await self.devices.answer(transaction, device.digest, columns, now()):
                raise UnknownUserCode

    async def exchange(self, device_code: str, application: StoredClient, client: Client) -> Token:
        """Return the tokens of a device that was let in, once.

        Raise UnauthorizedClient, AuthorizationPending, SlowDown, AccessDenied and DeviceCodeExpired.
        """
        if not application.may(DEVICE_GRANT):
            raise UnauthorizedClient
        moment = now()
        device = await self.devices.find(digest(device_code))
        if device is None or device.client_row_id != application.id or device.expires_at <= moment:
            raise DeviceCodeExpired
        if device.is_allowed is None:
            raise await self._ask_again(device, moment)
        token = await self._exchange(device, application, client) if device.is_allowed else None
        if token:
            return token
        raise DeviceCodeExpired if device.is_allowed else AccessDenied

    async def _ask_again(self, device: StoredDevice, moment: datetime) -> OAuthError:
        """Record that a device has asked, and return whether that was too soon, as the error to raise."""
        is_early = moment < device.asked_at + timedelta(seconds=device.interval)
        interval = device.interval + (INTERVAL if is_early else 0)
        await self.devices.record_question(device.digest, moment, interval)
        return SlowDown() if is_early else AuthorizationPending()

    @retry_on_deadlock
    async def _exchange(self, device: StoredDevice, application: StoredClient, client: Client) -> Token | None:
        """Open the session of a device; of many calls one succeeds, the others return None."""
        if device.user_id is None or device.grant_id is None:
            return None
        async with self.database.transaction() as transaction:
            is_active = await self.credentials.lock_active(transaction, device.user_id, None)
            if not is_active or not await self.grants.grants.lock(transaction, device.grant_id):
                return None
            # Until now, the person may have removed a factor.
            current = await self.devices.find(device.digest, transaction)
            if current is None or not await self.devices.spend(transaction, device.digest):
                return None
            session = NewSession(
                user_id=device.user_id,
                scope=current.scope,
                amr=current.amr or "",
                authenticated_at=current.authenticated_at or now(),
                application=application,
                grant_id=device.grant_id,
            )
            return await self.auth.open_in(transaction, session, client)
