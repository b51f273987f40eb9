"""The base classes of tables: names of constraints, 64-bit keys, times in UTC, versions, and rows with an owner."""

from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias, cast

from advanced_alchemy.types import DateTimeUTC
from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    FromClause,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    text,
)
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Mapped, declared_attr, mapped_column
from sqlalchemy.sql.elements import KeyedColumnElement

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
BigInt = BigInteger().with_variant(Integer(), "sqlite")
# SQLite has no time zones. PostgreSQL's driver returns times in UTC, and refuses those without a zone.
UtcDateTime = DateTime(timezone=True).with_variant(DateTimeUTC(), "sqlite")
PrimaryKey = Annotated[int, mapped_column(BigInt, Identity(), primary_key=True)]
Source: TypeAlias = type[DeclarativeBase] | FromClause
"""A model, whose table is read, or a subquery that joins several tables."""
Attribute: TypeAlias = InstrumentedAttribute[Any] | KeyedColumnElement[Any]
"""A column of a source."""


class Base(DeclarativeBase):
    """The base of every table."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {int: BigInt, datetime: UtcDateTime}
    # By default SQLite reuses the highest id when its row is deleted, and an old token would name a new user.
    __table_args__: Any = {"sqlite_autoincrement": True}


def now() -> datetime:
    """Return the current time, in UTC and with its zone."""
    return datetime.now(UTC)


class Timestamps:
    """A table whose rows have the times at which they were created and last changed."""

    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)


class Resource(Timestamps, Base):
    """A table whose rows have a version.

    SQLAlchemy increments a row's version, and compares it, at each UPDATE and DELETE of the row.
    """

    __abstract__ = True

    id: Mapped[PrimaryKey]
    version: Mapped[int] = mapped_column(default=1)

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805 - SQLAlchemy calls it with the class
        return {"version_id_col": cls.version}


class Owned(Resource):
    """A table whose rows belong to one user each."""

    __abstract__ = True

    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
        """Add the index of an owner's list by id, which also serves the foreign key (docs/paging.md)."""
        super().__init_subclass__(**options)
        Index(f"ix_{cls.__tablename__}_owner_id_id", table_of(cls).c.owner_id, text("(id + 0)"))


def code_point_string(length: int) -> String:
    """Return the type of a string that is ordered by code point on both databases, whatever PostgreSQL's locale."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def table_of(model: type[DeclarativeBase]) -> Table:
    """Return a model's table: a statement on the table's columns costs half of one on the model's attributes."""
    return cast("Table", model.__table__)


def from_clause_of(source: Source) -> FromClause:
    """Return the part of a statement that has a source's columns."""
    return source if isinstance(source, FromClause) else table_of(source)


def columns_of(source: Source, read: type[Struct]) -> list[KeyedColumnElement[Any]]:
    """Return the columns that have the names of a Struct's fields, in the order of the fields."""
    return [from_clause_of(source).c[name] for name in read.__struct_fields__]
