"""The tables of users and of their former addresses, and the normal forms of usernames and e-mail addresses."""

from datetime import datetime

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import ForeignKey, Index, String, false
from sqlalchemy.orm import Mapped, mapped_column

from app.database.models import Base, PrimaryKey, Timestamps, code_point_string
from app.errors import InvalidField, InvalidFields

MAX_ADDRESS = 320


class User(Timestamps, Base):
    """An account: a username, an e-mail address, a password and rights."""

    __tablename__ = "users"
    __table_args__ = (
        # One index for each order of the superusers' list but that by id.
        Index(None, "username", "id"),
        Index(None, "created_at", "id"),
        *(
            # The trigrams of the searched text. SQLite has no such index, and reads every row.
            Index(
                f"ix_users_{name}_search",
                name,
                postgresql_using="gin",
                postgresql_ops={name: "gin_trgm_ops"},
                info={"only": "postgresql"},
            )
            for name in ("username_key", "email_key")
        ),
        Base.__table_args__,
    )

    id: Mapped[PrimaryKey]
    username: Mapped[str] = mapped_column(code_point_string(64))
    email: Mapped[str] = mapped_column(String(MAX_ADDRESS))
    # Names and addresses are unique in any case: the keys hold them folded, on both databases alike.
    username_key: Mapped[str] = mapped_column(String(64), unique=True)
    email_key: Mapped[str] = mapped_column(String(640), unique=True)
    hashed_password: Mapped[str] = mapped_column(String(255))
    is_active: Mapped[bool] = mapped_column(default=True)
    is_superuser: Mapped[bool] = mapped_column(default=False)
    email_verified: Mapped[bool] = mapped_column(default=False)
    # Goes up when the address changes and when it is verified: a token that was mailed before is then spent.
    email_version: Mapped[int] = mapped_column(default=0, server_default="0")
    # True where a sign-in by the password needs a code, too. It is here so that a sign-in reads it with the password's
    # hash, and compares it when the session is opened.
    second_factor: Mapped[bool] = mapped_column(default=False, server_default=false())


class FormerAddress(Base):
    """A confirmed address that an account has left: it can be put back for some days, and nobody else may take it."""

    __tablename__ = "former_addresses"

    id: Mapped[PrimaryKey]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    email: Mapped[str] = mapped_column(String(MAX_ADDRESS))
    email_key: Mapped[str] = mapped_column(String(640), index=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


def name_key(name: str) -> str:
    """Return a username with its case folded, by which equal ones are found."""
    return name.casefold()


def address_key(address: str) -> str:
    """Return an e-mail address, in its normal form, with the case of its local part folded: equal ones are found by it.

    Domains are compared as they are: `straße.de` and `strasse.de` are two (IDNA 2008).
    """
    local_part, _, domain = address.rpartition("@")
    return f"{local_part.casefold()}@{domain}"


def normalise_email(address: str) -> str:
    """Return the normal form of an e-mail address, checked by its syntax and not by DNS. Raise InvalidFields."""
    try:
        return validate_email(address, check_deliverability=False).normalized
    except EmailNotValidError:
        raise InvalidFields(InvalidField("/email", "must be an e-mail address")) from None


def login_key(name: str) -> str:
    """Return the key of whatever somebody types to sign in: a username, or an address in any of its forms."""
    if "@" not in name or len(name) > MAX_ADDRESS:
        return name_key(name)
    try:
        return address_key(normalise_email(name))
    except InvalidFields:
        return name_key(name)
