"""Repositories: their statements name the owner of their rows, and outside of a transaction nothing is changed."""

import re

import pytest
from httpx import AsyncClient
from sqlalchemy.exc import InvalidRequestError

from app.database.sessions import Database
from app.items.models import Item
from app.items.repository import ItemRepository
from tests.factories import PASSWORD, Statements, create_item, log_in, on_postgresql

# These name the owner; the owner of a user's row is the user.
OWNER = re.compile(
    r"(owner_id|user_id|users\.id) = |INSERT INTO (items|sessions|idempotency_keys|events) \(.*(owner_id|user_id)",
    re.DOTALL,
)
# These don't: a user by the name that was typed, and one row by the id in its path, whose owner is compared then.
WITHOUT_OWNER = re.compile(
    r"users\.username_key = |FROM items\s+WHERE items\.id = |UPDATE items .* items\.version = ", re.DOTALL
)
# And these are about no rows.
NO_ROWS = ("BEGIN", "COMMIT", "SET LOCAL")


@on_postgresql
async def test_all_statements_but_the_sign_in_by_name_and_one_row_by_its_id_name_the_owner(
    client: AsyncClient, alice: AsyncClient, statements: Statements
) -> None:
    statements.clear()
    item = (await create_item(alice)).json()["id"]
    answers = [
        await alice.post("/items/", json={"title": "b"}, headers={"Idempotency-Key": "key"}),
        await alice.get("/items/?q=umbrella&count=true&sort=title"),
        await alice.get(f"/items/{item}"),
        await alice.patch(f"/items/{item}", json={"title": "c"}),
        await alice.delete(f"/items/{item}"),
        await alice.get("/users/me"),
        await alice.patch("/users/me", json={"username": "alicia"}),
        await alice.get("/users/me/sessions"),
        await alice.delete("/users/me/sessions"),
        signed_in := await log_in(client, "alicia", password=PASSWORD),
        await client.post(
            "/token", data={"grant_type": "refresh_token", "refresh_token": signed_in.json()["refresh_token"]}
        ),
    ]
    assert all(answer.is_success for answer in answers)
    about_rows = [statement for statement in statements if not statement.startswith(NO_ROWS)]
    without_owner = [statement for statement in about_rows if not OWNER.search(statement)]
    assert len(about_rows) > len(without_owner) + 20
    assert [statement for statement in without_owner if not WITHOUT_OWNER.search(statement)] == []


async def test_on_the_shared_session_no_transaction_begins(database: Database) -> None:
    """Advanced Alchemy's methods would leave one open, which nobody ends."""
    items = ItemRepository(database)
    for work in (items.add(Item(title="Umbrella")), items.get_one_or_none(id=1), items.count(), items.get_many()):
        with pytest.raises(InvalidRequestError):
            await work
