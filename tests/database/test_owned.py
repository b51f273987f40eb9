"""That statements name the owner of the rows that they are about, so that owners can be spread over many databases."""

import re

from httpx import AsyncClient

from tests.factories import PASSWORD, People, Statements, create_item, log_in, on_postgresql

# What names the owner: a user by id is their own.
OWNER = re.compile(
    r"(owner_id|user_id|users\.id) = |INSERT INTO (items|sessions|idempotency_keys) \(.*(owner_id|user_id)", re.DOTALL
)
# A user by the name that was typed, and one row by the id in its path, whose owner is compared then.
OTHERWISE = re.compile(
    r"users\.username_key = |FROM items\s+WHERE items\.id = |UPDATE items .* items\.version = ", re.DOTALL
)
NO_ROWS = ("BEGIN", "COMMIT", "SET LOCAL")


@on_postgresql
async def test_all_but_the_sign_in_by_name_and_one_row_by_its_id_name_the_owner(
    client: AsyncClient, people: People, statements: Statements
) -> None:
    """What users do all day: sign in, refresh, list, search, count, make, change and delete items, end sessions."""
    alice = await people.sign_in("alice")
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
    otherwise = [statement for statement in about_rows if not OWNER.search(statement)]
    assert len(about_rows) > len(otherwise) + 20
    assert [statement for statement in otherwise if not OTHERWISE.search(statement)] == []
