"""The table of users, and what makes their names and addresses the same."""

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database.models import Base, PrimaryKey, Timestamps
from app.errors import InvalidField, InvalidFields

# By code point on every PostgreSQL, whatever its locale, as on SQLite.
Name = String(64).with_variant(String(64, collation="C"), "postgresql")


class User(Timestamps, Base):
    """A person with a name, an address and a password."""

    __tablename__ = "users"
    __table_args__ = (
        # One for each order of the superusers' list but that by id.
        Index(None, "username", "id"),
        Index(None, "created_at", "id"),
        *(
            # Of the trigrams of what is searched; SQLite has nothing like it, and looks at each row.
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
    username: Mapped[str] = mapped_column(Name)
    email: Mapped[str] = mapped_column(String(320))
    # Names are unique in any case: the keys hold them folded, on either database alike.
    username_key: Mapped[str] = mapped_column(String(64), unique=True)
    email_key: Mapped[str] = mapped_column(String(640), unique=True)
    hashed_password: Mapped[str] = mapped_column(String(255))
    is_active: Mapped[bool] = mapped_column(default=True)
    is_superuser: Mapped[bool] = mapped_column(default=False)
    email_verified: Mapped[bool] = mapped_column(default=False)


def name_key(name: str) -> str:
    """Return what two names or addresses have in common that differ in case at most."""
    return name.casefold()


def normalise_email(address: str) -> str:
    """Return the address in its normal form, checked by its syntax alone. Raise InvalidFields."""
    try:
        return validate_email(address, check_deliverability=False).normalized
    except EmailNotValidError:
        raise InvalidFields(InvalidField("/email", "must be an e-mail address")) from None
