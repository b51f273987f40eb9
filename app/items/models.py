"""The table of items."""

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, backref, mapped_column, relationship

from app.db import Base, PrimaryKey, Timestamps
from app.users.models import User


class Item(Timestamps, Base):
    """Something that one user owns."""

    __tablename__ = "items"
    # The list of one owner, newest first, is read from this index alone; it also serves the foreign key.
    __table_args__ = (Index(None, "owner_id", "id"), Base.__table_args__)

    id: Mapped[PrimaryKey]
    title: Mapped[str] = mapped_column(String(200))
    description: Mapped[str | None] = mapped_column(String(10_000))
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    version: Mapped[int] = mapped_column(default=1)

    # No lazy loading: a query that isn't written down is an error, and so is one that forgets its owner.
    owner: Mapped[User] = relationship(lazy="raise", backref=backref("items", lazy="raise", passive_deletes=True))
