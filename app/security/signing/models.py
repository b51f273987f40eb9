"""The table of signing keys."""

from datetime import datetime

from sqlalchemy import LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.database.models import Base, now


class StoredSigningKey(Base):
    """A private key, encrypted under SECRET_KEY."""

    __tablename__ = "signing_keys"
    # Of two instances that make the same key of an algorithm at once, one fails and takes the other's.
    __table_args__ = (UniqueConstraint("algorithm", "number"),)

    # The thumbprint of the public key (RFC 7638).
    kid: Mapped[str] = mapped_column(String(43), primary_key=True)
    algorithm: Mapped[str] = mapped_column(String(16))
    # The keys of one algorithm follow each other: 1, 2 and so on.
    number: Mapped[int]
    encrypted: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=now)
    signs_from: Mapped[datetime]
    # The most seconds for which a token that the key signs is valid.
    token_seconds: Mapped[int]
