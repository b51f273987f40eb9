"""The statements on items; those on all rows that belong to a user are in app/database/repository.py."""

from app.database.repository import OwnedRepository
from app.errors import Forbidden, NotFound
from app.items.models import Item
from app.items.schemas import ItemRead


class ItemNotFound(NotFound):
    """No item has that id."""

    detail = "Item not found"


class NotYourItem(Forbidden):
    """The item belongs to another user."""

    detail = "Not authorized to access this item"


class ItemRepository(OwnedRepository[Item, ItemRead]):
    """The rows of `items`."""

    model_type, read_type = Item, ItemRead
    not_found, not_yours = ItemNotFound, NotYourItem
    orders, searched = (Item.id, Item.updated_at, Item.title), (Item.search_text,)
