"""The feature of items: its routes and services."""

from app.http.feature import Feature, Parts, resource
from app.items.controller import ItemController
from app.items.repository import ItemRepository
from app.items.service import ItemService


def feature(parts: Parts) -> Feature:
    """Return the routes of items, and the services that they use."""
    about = "What you have made; nobody else sees it."
    return resource(parts, ItemController, about, items=lambda database: ItemService(ItemRepository(database)))
