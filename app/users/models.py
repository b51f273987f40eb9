"""The table of users, and the normal forms of usernames and e-mail addresses."""

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database.models import Base, PrimaryKey, Timestamps, code_point_string
from app.errors import InvalidField, InvalidFields


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
    email: Mapped[str] = mapped_column(String(320))
    # Names and addresses are unique in any case: the keys hold them folded, on both databases alike.
    username_key: Mapped[str] = mapped_column(String(64), unique=True)
    email_key: Mapped[str] = mapped_column(String(640), unique=True)
    hashed_password: Mapped[str] = mapped_column(String(255))
    is_active: Mapped[bool] = mapped_column(default=True)
    is_superuser: Mapped[bool] = mapped_column(default=False)
    email_verified: Mapped[bool] = mapped_column(default=False)


def name_key(name: str) -> str:
    """Return a username or e-mail address with its case folded, by which equal ones are found."""
    return name.casefold()


def normalise_email(address: str) -> str:
    """Return the normal form of an e-mail address, checked by its syntax and not by DNS. Raise InvalidFields."""
    try:
        return validate_email(address, check_deliverability=False).normalized
    except EmailNotValidError:
        raise InvalidFields(InvalidField("/email", "must be an e-mail address")) from None
