"""The rules of items."""

from app.database.pages import Page, PageQuery
from app.database.repository import Versioned, Versions, given
from app.database.search import searchable
from app.database.sessions import Transaction
from app.items.repository import ItemRepository
from app.items.schemas import ItemCreate, ItemRead, ItemUpdate


class ItemService:
    """The service that creates, lists, reads, changes and deletes the items of their owners."""

    def __init__(self, items: ItemRepository) -> None:
        self.items = items

    async def create(
        self, owner_id: int, data: ItemCreate, transaction: Transaction | None = None
    ) -> Versioned[ItemRead]:
        """Add an item, with the text that a search compares."""
        search_text = searchable(data.title, data.description)
        return await self.items.create(owner_id, {**given(data), "search_text": search_text}, transaction)

    async def page(self, owner_id: int, query: PageQuery) -> Page[ItemRead]:
        """Return one page of the owner's items."""
        return await self.items.owned_page(owner_id, query)

    async def read(self, owner_id: int, item_id: int) -> Versioned[ItemRead]:
        """Return one item. Raise ItemNotFound and NotYourItem."""
        return await self.items.read(owner_id, item_id)

    async def update(
        self, transaction: Transaction, owner_id: int, item_id: int, data: ItemUpdate, expected: Versions | None
    ) -> Versioned[ItemRead]:
        """Change the given fields of an item. Raise ItemNotFound, NotYourItem and PreconditionFailed."""
        item = await self.items.to_change(transaction, owner_id, item_id, expected)
        values = {"title": item.title, "description": item.description, **given(data)}
        search_text = searchable(values["title"], values["description"])
        return await self.items.change(transaction, item, {**values, "search_text": search_text})

    async def delete(self, transaction: Transaction, owner_id: int, item_id: int, expected: Versions | None) -> None:
        """Delete an item. Raise ItemNotFound, NotYourItem and PreconditionFailed."""
        await self.items.delete_owned(owner_id, item_id, expected, transaction)
