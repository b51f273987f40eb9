"""The rules of items: a caller sees and touches only their own."""

from sqlalchemy import bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import now
from app.errors import Forbidden, NotFound
from app.items.models import Item
from app.items.schemas import ItemCreate, ItemRead


class ItemNotFound(NotFound):
    """No item has that id."""

    detail = "Item not found"


class NotYourItem(Forbidden):
    """The item is somebody else's."""

    detail = "Not authorized to access this item"


# Columns straight into Structs: an entity of each row, which nothing here needs, would double the cost of a list.
COLUMNS = (Item.id, Item.title, Item.description, Item.owner_id, Item.created_at, Item.updated_at, Item.version)
CREATE = insert(Item).returning(*COLUMNS)
READ = select(*COLUMNS).where(Item.id == bindparam("id"))
NEWEST_FIRST = (
    select(*COLUMNS).where(Item.owner_id == bindparam("owner")).order_by(Item.id.desc()).limit(bindparam("limit"))
)


class ItemService:
    """What an owner does with items."""

    def __init__(self, session: AsyncSession) -> None:
        """The caller commits the session's transaction, if it is in one."""
        self.session = session

    async def create(self, owner_id: int, data: ItemCreate) -> tuple[ItemRead, int]:
        """A new item of that owner's and its version; one INSERT whose RETURNING saves the SELECT after it."""
        moment = now()
        values = {
            "title": data.title,
            "description": data.description,
            "owner_id": owner_id,
            "created_at": moment,
            "updated_at": moment,
        }
        row = (await self.session.execute(CREATE, values)).one()
        return ItemRead(*row[:-1]), row[-1]

    async def page(self, owner_id: int, limit: int) -> list[ItemRead]:
        """The owner's newest items, at most `limit` of them."""
        rows = await self.session.execute(NEWEST_FIRST, {"owner": owner_id, "limit": limit})
        return [ItemRead(*row[:-1]) for row in rows]

    async def read(self, owner_id: int, item_id: int) -> tuple[ItemRead, int]:
        """One item and its version. Raises ItemNotFound, and NotYourItem when somebody else owns it."""
        row = (await self.session.execute(READ, {"id": item_id})).one_or_none()
        if row is None:
            raise ItemNotFound
        if row.owner_id != owner_id:
            raise NotYourItem
        return ItemRead(*row[:-1]), row[-1]
