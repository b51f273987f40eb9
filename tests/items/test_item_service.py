"""The rules of items, without HTTP."""

from collections.abc import AsyncIterator

import pytest
from litestar import Litestar
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.sessions import Database
from app.http.problems import app_error
from app.items.models import Item
from app.items.repository import ItemNotFound, NotYourItem
from app.items.schemas import ItemCreate
from app.items.service import ItemService
from app.users.models import User
from tests.factories import add_user


@pytest.fixture
async def session(app: Litestar) -> AsyncIterator[AsyncSession]:
    """A session in a transaction that commits at the end of the test."""
    database: Database = app.state.database
    async with database.transaction() as session:
        yield session
    await database.close()


@pytest.fixture
async def alice(app: Litestar) -> User:
    """An owner."""
    return await add_user(app, "alice")


async def test_an_item_belongs_to_who_created_it(alice: User, session: AsyncSession) -> None:
    """And is read by them."""
    item, version = await ItemService(session).create(alice.id, ItemCreate("Umbrella", "Black"))
    assert (item.title, item.description, item.owner_id, version) == ("Umbrella", "Black", alice.id, 1)
    assert await ItemService(session).read(alice.id, item.id) == (item, version)


async def test_nobody_else_reads_it(alice: User, session: AsyncSession) -> None:
    """It is there, but not theirs."""
    item, _ = await ItemService(session).create(alice.id, ItemCreate("Umbrella"))
    with pytest.raises(NotYourItem):
        await ItemService(session).read(alice.id + 1, item.id)


async def test_an_item_that_is_not_there_is_not_found(alice: User, session: AsyncSession) -> None:
    """By anybody."""
    with pytest.raises(ItemNotFound):
        await ItemService(session).read(alice.id, 1)


async def test_nothing_is_loaded_that_no_query_asks_for(alice: User, session: AsyncSession) -> None:
    """An owner knows their items and an item its owner, but only where a query loads them."""
    await ItemService(session).create(alice.id, ItemCreate("Umbrella"))
    item = (await session.scalars(select(Item))).one()
    with pytest.raises(InvalidRequestError, match="lazy='raise'"):
        _ = item.owner
    owner = (await session.scalars(select(User))).one()
    with pytest.raises(InvalidRequestError, match="lazy='raise'"):
        _ = owner.items  # type: ignore[attr-defined] # the other end of `Item.owner`


async def test_the_items_of_a_deleted_user_go_with_them(alice: User, session: AsyncSession) -> None:
    """The database sees to that."""
    await ItemService(session).create(alice.id, ItemCreate("Umbrella"))
    await session.delete(await session.get_one(User, alice.id))
    await session.flush()
    assert (await session.scalars(select(Item.id))).all() == []


async def test_an_item_of_a_user_who_is_gone_is_a_conflict(app: Litestar, alice: User) -> None:
    """The account was deleted after the guard had seen it."""
    with pytest.raises(IntegrityError) as failure:
        await ItemService(app.state.database).create(alice.id + 1, ItemCreate("Umbrella"))
    assert app_error(failure.value).status == 409
    await app.state.database.close()


async def test_changing_an_item_takes_a_transaction(app: Litestar, alice: User) -> None:
    """By itself, none of the statements would be safe."""
    with pytest.raises(TypeError, match="transaction"):
        await ItemService(app.state.database).delete(alice.id, 1, None)
    await app.state.database.close()
