"""The rules of items; those of every owned row are in app/owned.py."""

from collections.abc import Mapping
from typing import Any

from app.errors import Forbidden, NotFound
from app.items.models import Item
from app.items.schemas import ItemRead
from app.owned import OwnedService, OwnedTable
from app.search import searchable


class ItemNotFound(NotFound):
    """No item has that id."""

    detail = "Item not found"


class NotYourItem(Forbidden):
    """The item is somebody else's."""

    detail = "Not authorized to access this item"


class ItemService(OwnedService[Item, ItemRead]):
    """What an owner does with items."""

    table = OwnedTable(
        Item,
        ItemRead,
        missing=ItemNotFound,
        foreign=NotYourItem,
        orders=[Item.id, Item.updated_at, Item.title],
        searched=[Item.search_text],
    )

    def derived(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The text that a search looks at."""
        return {"search_text": searchable(values["title"], values["description"])}
