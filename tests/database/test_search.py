"""Search, as items have it: every word is a part of the text, in any case and Unicode form."""

from itertools import product
from typing import Literal
from unicodedata import normalize

import pytest
from httpx import AsyncClient

from app.database.engine import POSTGRESQL_SETTINGS
from app.database.search import searchable
from app.main import create_app
from app.settings import Settings
from tests.factories import People, connect_to, create_item, on_postgresql
from tests.problems import pointers

Form = Literal["NFC", "NFD"]


async def found(client: AsyncClient, q: str, **params: str) -> list[str]:
    """Return the titles that a search finds, oldest first."""
    answer = await client.get("/items/", params={"q": q, "sort": "id", **params})
    assert answer.status_code == 200, answer.text
    return [item["title"] for item in answer.json()]


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("umbrella", ["Umbrella", "Umbrella stand"]),
        ("BRELL", ["Umbrella", "Umbrella stand"]),
        ("stand", ["Umbrella stand", "Boots"]),
        ("stand umb", ["Umbrella stand"]),
        ("black", ["Umbrella"]),
        ("fold umbrella", ["Umbrella"]),
        ("a", ["Umbrella", "Umbrella stand", "Boots"]),
        ("ab", []),
        ("umbrellas", []),
        ("umbrellablack", []),
        ("", ["Umbrella", "Umbrella stand", "Boots"]),
        (" \u3000\n", ["Umbrella", "Umbrella stand", "Boots"]),
        ("boots Boots BOOTS", ["Boots"]),
    ],
)
async def test_every_word_is_in_the_title_or_the_description(alice: AsyncClient, q: str, expected: list[str]) -> None:
    """The words come in any case and order; a search without words finds everything."""
    await create_item(alice, "Umbrella", "Black, folding")
    await create_item(alice, "Umbrella stand")
    await create_item(alice, "Boots", "for which there is a STAND")
    assert await found(alice, q) == expected


@pytest.mark.parametrize(
    ("title", "q"),
    [
        ("Ærøskøbing", "ærØSK"),
        ("ЗОНТИК", "зонт"),
        ("ομπρέλα", "ΟΜΠΡΈΛΑ"),
        ("ΟΔΟΣ", "οδος"),
        ("Straße", "STRASSE"),
        ("STRASSE", "straße"),
        ("İstanbul", "i\u0307stanbul"),
        ("傘の話", "傘"),
        ("\U00010400", "\U00010428"),
        ("\U0001f302", "\U0001f302"),
        ("e\u0301te", "e"),
        ("ﬀ", "FF"),
    ],
)
async def test_case_is_unicodes_whatever_the_locale_of_the_database(alice: AsyncClient, title: str, q: str) -> None:
    await create_item(alice, title)
    await create_item(alice, "something else")
    assert title in await found(alice, q)
    assert await found(alice, q + "\u4e2d") == []


@pytest.mark.parametrize(
    "title", ["Caf\u00e9", "한국어 제목", "Ång\u1e9bström", "ガギグ", "\u1f08\u0345\u03b4\u03b7\u03c2", "\u0390"]
)
@pytest.mark.parametrize(("stored", "asked"), list(product(["NFC", "NFD"], repeat=2)))
async def test_a_word_is_the_same_in_every_unicode_form(
    alice: AsyncClient, title: str, stored: Form, asked: Form
) -> None:
    """A title that was typed on a Mac has its accents and Korean syllables in parts; it comes back as it was sent."""
    sent = normalize(stored, title)
    await create_item(alice, sent, f"described as {sent}")
    await create_item(alice, "something else")
    for word in (title, title.upper(), title.lower()):
        assert await found(alice, normalize(asked, word)) == [sent]


async def test_a_long_text_without_spaces_is_searched_in_every_form(alice: AsyncClient) -> None:
    """It is folded in pieces, none of which ends within a letter."""
    text = "한국어가" * 150
    await create_item(alice, "long", normalize("NFD", text))
    for start in range(40):
        assert await found(alice, text[start * 13 :][:37]) == ["long"]


def test_many_accents_on_one_letter_are_folded_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time to reorder them is bounded by the length of a piece."""
    pieces: list[int] = []

    def counted(form: Form, text: str) -> str:
        pieces.append(len(text))
        return normalize(form, text)

    monkeypatch.setattr("app.database.search.unicodedata.normalize", counted)
    searchable("a" + "\u0301\u0323" * 5_000)
    assert max(pieces) <= 150
    pieces.clear()
    searchable("plain text", None)
    assert pieces == []


@pytest.mark.parametrize("sign", ["%", "_", "/", "\\", "'", '"', "*", "?", "[", "^", "$", ".", "(", "--", "\\%", "/%"])
async def test_every_character_stands_for_itself(alice: AsyncClient, sign: str) -> None:
    await create_item(alice, "plain")
    await create_item(alice, f"a{sign}b")
    for q in (sign, f"a{sign}b", f"A{sign}"):
        assert await found(alice, q) == [f"a{sign}b"]
    assert await found(alice, f"a{sign}{sign}b") == []


async def test_a_search_follows_changes_of_either_field(alice: AsyncClient) -> None:
    await create_item(alice, "Umbrella", "Black")
    await alice.patch("/items/1", json={"title": "Parasol"})
    assert (await found(alice, "umbrella"), await found(alice, "parasol black")) == ([], ["Parasol"])
    await alice.patch("/items/1", json={"description": None})
    assert (await found(alice, "black"), await found(alice, "parasol")) == ([], ["Parasol"])


async def test_a_search_finds_only_the_callers(alice: AsyncClient, bob: AsyncClient) -> None:
    await create_item(alice, "Umbrella")
    assert await found(alice, "umbrella") == ["Umbrella"]
    assert await found(bob, "umbrella") == []


async def test_a_search_takes_ten_different_words(alice: AsyncClient) -> None:
    await create_item(alice, "abcdefghijk")
    assert await found(alice, " ".join("abcdefghijABC")) == ["abcdefghijk"]
    assert pointers(await alice.get("/items/", params={"q": " ".join("abcdefghijk")})) == ["/q"]


@on_postgresql
@pytest.mark.parametrize("without", [["enable_bitmapscan"], ["enable_seqscan", "enable_indexscan"]])
async def test_postgresql_finds_the_same_with_its_index_and_without(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, without: list[str]
) -> None:
    """Some of these words have no trigrams: signs, words of other scripts in some locales, and short words."""
    for setting in without:
        monkeypatch.setitem(POSTGRESQL_SETTINGS, setting, "off")
    app = create_app(settings)
    async with connect_to(app) as client:
        alice = await People(app, client).sign_in("alice")
        titles = ["Umbrella", "ЗОНТИК", "100 %", "x_y", "\U0001f302\U0001f302\U0001f302", "ab"]
        for title in titles:
            await create_item(alice, title)
        for q, title in zip(["UMBR", "зонтик", "0 %", "X_Y", "\U0001f302\U0001f302", "AB"], titles, strict=True):
            assert await found(alice, q) == [title]


def test_no_word_reaches_from_one_text_into_the_next() -> None:
    assert searchable("Ab", None, "", "Cd") == "ab\ncd"
