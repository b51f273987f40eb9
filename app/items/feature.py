"""The feature of items: its routes and services."""

from litestar.openapi.spec import Tag

from app.http.feature import Feature, Parts, provide, provide_readable
from app.items.controller import ItemController
from app.items.repository import ItemRepository
from app.items.service import ItemService


def feature(parts: Parts) -> Feature:
    """Return the routes of items, and the services that they use."""
    services = {database: ItemService(ItemRepository(database)) for database in parts.databases}
    return Feature(
        routes=[ItemController],
        tags=[Tag("Items", "What you have made; nobody else sees it.")],
        dependencies={
            **provide(items=services[parts.database]),
            "readable_items": provide_readable(parts.replicas, services),
        },
    )
