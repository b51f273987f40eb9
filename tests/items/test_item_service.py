"""The rules of items, without HTTP."""

from collections.abc import AsyncIterator

import pytest
from litestar import Litestar
from msgspec import UNSET, Struct, UnsetType
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.database.pages import PageQuery
from app.database.sessions import Database, Transaction
from app.http.problems import app_error
from app.items.models import Item
from app.items.repository import ItemNotFound, ItemRepository, NotYourItem
from app.items.schemas import Description, ItemCreate, ItemUpdate, Title
from app.items.service import ItemService
from app.users.models import User
from tests.factories import add_user


@pytest.fixture
def items(database: Database) -> ItemService:
    """The service on the application's own database."""
    return ItemService(ItemRepository(database))


@pytest.fixture
async def alice(app: Litestar) -> User:
    """A user who owns items."""
    return await add_user(app, "alice")


@pytest.fixture
async def transaction(database: Database, alice: User) -> AsyncIterator[Transaction]:  # noqa: ARG001 - hers come first
    """A transaction that commits at the end of the test."""
    async with database.transaction() as transaction:
        yield transaction


async def test_an_item_belongs_to_its_creator_who_reads_it(items: ItemService, alice: User) -> None:
    item, version = await items.create(alice.id, ItemCreate("Umbrella", "Black"))
    assert (item.title, item.description, item.owner_id, version) == ("Umbrella", "Black", alice.id, 1)
    assert await items.read(alice.id, item.id) == (item, version)


async def test_nobody_else_reads_it(items: ItemService, alice: User) -> None:
    """Another user gets an error which says that the item isn't theirs."""
    item, _ = await items.create(alice.id, ItemCreate("Umbrella"))
    with pytest.raises(NotYourItem):
        await items.read(alice.id + 1, item.id)


async def test_an_item_that_is_not_there_is_not_found(items: ItemService, alice: User) -> None:
    with pytest.raises(ItemNotFound):
        await items.read(alice.id, 1)


async def test_an_item_may_be_created_in_a_transaction(
    items: ItemService, alice: User, transaction: Transaction
) -> None:
    """Nobody sees it before the transaction commits, and it is gone when that rolls back."""
    item, version = await items.create(alice.id, ItemCreate("Umbrella"), transaction)
    assert (item.title, version) == ("Umbrella", 1)
    with pytest.raises(ItemNotFound):
        await items.read(alice.id, item.id)
    await transaction.rollback()
    with pytest.raises(ItemNotFound):
        await items.read(alice.id, item.id)


async def test_the_items_of_a_deleted_user_go_with_them(
    items: ItemService, alice: User, transaction: Transaction
) -> None:
    """The database deletes them by its foreign key."""
    await items.create(alice.id, ItemCreate("Umbrella"), transaction)
    await transaction.delete(await transaction.get_one(User, alice.id))
    await transaction.flush()
    assert (await transaction.scalars(select(Item.id))).all() == []


async def test_an_item_of_a_user_who_is_gone_is_a_conflict(items: ItemService, alice: User) -> None:
    """The account was deleted after the guard had seen it."""
    with pytest.raises(IntegrityError) as failure:
        await items.create(alice.id + 1, ItemCreate("Umbrella"))
    assert app_error(failure.value).status == 409


class TitleUpdate(Struct):
    """A change that has no description."""

    title: Title | UnsetType = UNSET


class DescriptionUpdate(Struct):
    """A change that has no title."""

    description: Description | UnsetType | None = UNSET


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (ItemUpdate(title="Parasol"), {"parasol", "black"}),
        (ItemUpdate(description="White"), {"umbrella", "white"}),
        (ItemUpdate(description=None), {"umbrella"}),
        (ItemUpdate("Parasol", "White"), {"parasol", "white"}),
        (ItemUpdate(), {"umbrella", "black"}),
        (TitleUpdate("Parasol"), {"parasol", "black"}),
        (TitleUpdate(), {"umbrella", "black"}),
        (DescriptionUpdate("White"), {"umbrella", "white"}),
        (DescriptionUpdate(None), {"umbrella"}),
    ],
)
async def test_a_search_finds_what_was_changed_and_what_was_not(
    items: ItemService, database: Database, alice: User, change: ItemUpdate, found: set[str]
) -> None:
    """A text that a change leaves out is found as before, also when the change has no field for it."""
    item, _ = await items.create(alice.id, ItemCreate("Umbrella", "Black"))
    async with database.transaction() as transaction:
        await items.update(transaction, alice.id, item.id, change, None)
    for word in ("umbrella", "parasol", "black", "white"):
        query = PageQuery(limit=1, sort="id", terms=(word,), after=None, count=False, caller_id=alice.id)
        page = await items.page(alice.id, query)
        assert [row.id for row in page.rows] == ([item.id] if word in found else []), word
