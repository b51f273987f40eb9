"""The tables of applications, of what people have granted them, and of the codes and tokens on the way."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.database.models import Base, BigInt, PrimaryKey, Timestamps

DIGEST_BYTES = 32


class OAuthClient(Timestamps, Base):
    """An application that is registered. Lists are texts with spaces between their parts, none of which has any."""

    __tablename__ = "oauth_clients"

    id: Mapped[PrimaryKey]
    # The name by which the application calls itself in requests.
    client_id: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    redirect_uris: Mapped[str] = mapped_column(Text)
    grant_types: Mapped[str] = mapped_column(Text)
    scope: Mapped[str] = mapped_column(Text)
    confidential: Mapped[bool]
    # It is the operator's own: people aren't asked for their consent.
    first_party: Mapped[bool]
    id_token_signed_response_alg: Mapped[str] = mapped_column(String(16))
    secret_digest: Mapped[bytes | None] = mapped_column(LargeBinary(DIGEST_BYTES))
    # The secret before this one, and until when it is still good.
    former_secret_digest: Mapped[bytes | None] = mapped_column(LargeBinary(DIGEST_BYTES))
    former_secret_until: Mapped[datetime | None]


class OAuthOrigin(Base):
    """The web origin of one of an application's redirect URIs, whose pages may call some endpoints."""

    __tablename__ = "oauth_origins"
    __table_args__ = {}

    client_row_id: Mapped[int] = mapped_column(ForeignKey("oauth_clients.id", ondelete="CASCADE"), primary_key=True)
    origin: Mapped[str] = mapped_column(String(300), primary_key=True, index=True)


class OAuthGrant(Timestamps, Base):
    """The scopes that a person has granted an application; its sessions go with it."""

    __tablename__ = "oauth_grants"
    __table_args__ = (UniqueConstraint("user_id", "client_row_id"), Base.__table_args__)

    id: Mapped[PrimaryKey]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    client_row_id: Mapped[int] = mapped_column(ForeignKey("oauth_clients.id", ondelete="CASCADE"), index=True)
    scope: Mapped[str] = mapped_column(Text)


class AuthorizationCode(Base):
    """An authorization code, which is kept after its use, so that a second use ends what the first one got."""

    __tablename__ = "authorization_codes"
    __table_args__ = {}

    digest: Mapped[bytes] = mapped_column(LargeBinary(DIGEST_BYTES), primary_key=True)
    grant_id: Mapped[int] = mapped_column(ForeignKey("oauth_grants.id", ondelete="CASCADE"), index=True)
    # The browser's session in which it was made: until the code is used, the code ends with it.
    approved_in: Mapped[int | None] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    # Whether it was tried, and the session that it opened if the try was a good one.
    used: Mapped[bool] = mapped_column(default=False)
    session_id: Mapped[int | None]
    redirect_uri: Mapped[str] = mapped_column(Text)
    challenge: Mapped[str] = mapped_column(String(43))
    scope: Mapped[str] = mapped_column(Text)
    nonce: Mapped[str | None] = mapped_column(Text)
    amr: Mapped[str] = mapped_column(Text)
    authenticated_at: Mapped[datetime]
    # Until it is used: when it stops working. After that: when its session has ended at the latest.
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ClientToken(Base):
    """An access token of an application's own, which acts for nobody; without the row it no longer works."""

    __tablename__ = "client_tokens"
    # Ids are random, as those of sessions.
    __table_args__ = {}

    id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    client_row_id: Mapped[int] = mapped_column(ForeignKey("oauth_clients.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class DeviceCode(Base):
    """A device that waits until a person lets it in, elsewhere."""

    __tablename__ = "device_codes"
    __table_args__ = {}

    digest: Mapped[bytes] = mapped_column(LargeBinary(DIGEST_BYTES), primary_key=True)
    # The code that the person types.
    user_code: Mapped[str] = mapped_column(String(8), unique=True)
    client_row_id: Mapped[int] = mapped_column(ForeignKey("oauth_clients.id", ondelete="CASCADE"), index=True)
    scope: Mapped[str] = mapped_column(Text)
    # The person's answer: a grant, with the session in which it was given, or a no; NULL until they have answered.
    is_allowed: Mapped[bool | None]
    grant_id: Mapped[int | None] = mapped_column(ForeignKey("oauth_grants.id", ondelete="CASCADE"), index=True)
    approved_in: Mapped[int | None] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    amr: Mapped[str | None] = mapped_column(Text)
    authenticated_at: Mapped[datetime | None]
    # The seconds that the device has to wait between two questions, and when it asked last.
    interval: Mapped[int]
    asked_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
