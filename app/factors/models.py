"""The tables of second factors: secrets of authenticator apps, recovery codes, passkeys, and spent challenges."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database.models import Base, BigInt, PrimaryKey, now


class Totp(Base):
    """The secret that a user's authenticator app makes its codes from (RFC 6238); it is pending until one came."""

    __tablename__ = "totps"
    __table_args__ = {}

    user_id: Mapped[int] = mapped_column(
        BigInt, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    # Encrypted, for its user.
    secret: Mapped[bytes] = mapped_column(LargeBinary(256))
    # The step of the last code that was accepted: neither it nor an earlier one is accepted again.
    last_step: Mapped[int] = mapped_column(default=0)
    confirmed_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class RecoveryCode(Base):
    """A code that signs in once instead of one of the app."""

    __tablename__ = "recovery_codes"
    __table_args__ = {}

    user_id: Mapped[int] = mapped_column(BigInt, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    # SHA-256, since the codes have as many random bits as a key.
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)


class Passkey(Base):
    """A public key of a user's, whose private key never leaves the device or its maker's cloud (WebAuthn)."""

    __tablename__ = "passkeys"

    id: Mapped[PrimaryKey]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    credential_id: Mapped[bytes] = mapped_column(LargeBinary(1023), unique=True)
    public_key: Mapped[bytes] = mapped_column(LargeBinary(2048))
    # The number of signatures, by the device's count; many devices leave it at 0.
    sign_count: Mapped[int] = mapped_column(default=0)
    name: Mapped[str] = mapped_column(String(100))
    backed_up: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime | None]


class SpentChallenge(Base):
    """A challenge that a passkey has signed, and that isn't accepted again."""

    __tablename__ = "spent_challenges"
    __table_args__ = {}

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)
