"""The statements on devices that wait to be let in."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import bindparam, delete, insert, select, update

from app.auth.models import LoginSession
from app.database.failures import refusals
from app.database.models import now, table_of
from app.database.purge import delete_in_batches
from app.database.repository import Repository
from app.database.sessions import Transaction
from app.errors import Conflict
from app.oauth.models import DeviceCode, OAuthGrant
from app.oauth.repository import ClientNotFound, SessionEnded, amr_now


class StoredDevice(Struct, frozen=True):
    """A device that waits, or that a person has answered; `user_id` is that person's."""

    digest: bytes
    client_row_id: int
    scope: str
    is_allowed: bool | None
    grant_id: int | None
    user_id: int | None
    amr: str | None
    authenticated_at: datetime | None
    interval: int
    asked_at: datetime
    expires_at: datetime


DEVICES = table_of(DeviceCode).c
OTHERS = {"user_id": OAuthGrant.user_id, "amr": amr_now(DEVICES)}
STORED_DEVICES = (
    select(*(OTHERS[name] if name in OTHERS else DEVICES[name] for name in StoredDevice.__struct_fields__))
    .outerjoin_from(DeviceCode, OAuthGrant, OAuthGrant.id == DEVICES.grant_id)
    .outerjoin(LoginSession, LoginSession.id == DEVICES.approved_in)
)
DEVICE = STORED_DEVICES.where(DEVICES.digest == bindparam("code"))
WAITING = STORED_DEVICES.where(
    DEVICES.user_code == bindparam("typed"), DEVICES.is_allowed.is_(None), DEVICES.expires_at > bindparam("at")
)
RECORD_QUESTION = (
    update(DeviceCode)
    .where(DEVICES.digest == bindparam("code"))
    .values(asked_at=bindparam("at"), interval=bindparam("seconds"))
    .returning(DEVICES.digest)
)


class DeviceRepository(Repository[DeviceCode]):
    """The rows of `device_codes`."""

    model_type = DeviceCode

    async def create(self, transaction: Transaction, columns: dict[str, Any]) -> None:
        """Add a device. Raise ClientNotFound when its application has just been removed."""
        with refusals(duplicate=Conflict, orphan=ClientNotFound):
            await transaction.execute(insert(DeviceCode).values(**columns))

    async def find(self, digest: bytes, transaction: Transaction | None = None) -> StoredDevice | None:
        """Return a device by its own code; None when there is none."""
        rows = await self.rows(DEVICE, {"code": digest}, transaction)
        return StoredDevice(*rows[0]) if rows else None

    async def waiting(self, user_code: str, moment: datetime) -> StoredDevice | None:
        """Return the device that waits with a person's code; None when there is none, or it was answered."""
        rows = await self.rows(WAITING, {"typed": user_code, "at": moment})
        return StoredDevice(*rows[0]) if rows else None

    async def record_question(self, digest: bytes, moment: datetime, interval: int) -> None:
        """Record that a device has asked, and the seconds that it has to wait from now on."""
        await self.rows(RECORD_QUESTION, {"code": digest, "at": moment, "seconds": interval})

    async def answer(self, transaction: Transaction, digest: bytes, columns: dict[str, Any], moment: datetime) -> bool:
        """Store a person's answer; return False when there is one already, or the time is over. Raise SessionEnded."""
        waits = (DEVICES.digest == digest) & DEVICES.is_allowed.is_(None) & (DEVICES.expires_at > moment)
        answered = update(DeviceCode).where(waits).values(**columns).returning(DEVICES.digest)
        with refusals(duplicate=Conflict, orphan=SessionEnded):
            return (await transaction.execute(answered)).first() is not None

    async def spend(self, transaction: Transaction, digest: bytes) -> bool:
        """Delete a device that was let in; of many calls one succeeds, the others return False."""
        allowed = (DEVICES.digest == digest) & DEVICES.is_allowed.is_(True)
        return (
            await transaction.execute(delete(DeviceCode).where(allowed).returning(DEVICES.digest))
        ).first() is not None

    async def purge(self) -> int:
        """Delete the devices whose time is over, and return their number."""
        return await delete_in_batches(self.database, DeviceCode, DeviceCode.expires_at <= now())
