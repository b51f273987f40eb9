"""What every resource does whose rows belong to one user each."""

from collections.abc import Mapping

from tests.factories import People
from tests.problems import assert_problem, pointers

Body = Mapping[str, object]


async def assert_owned(
    people: People, path: str, body: Body, *, wrong: Body, missing: str, denied: tuple[int, str] | None = None
) -> None:
    """A row is made once for a key, is its owner's alone, comes in pages, and goes while its tag is the right one.

    Of `wrong` every field is refused. Whoever asks for somebody else's row is `denied` it, as one that is `missing`
    unless this says how.
    """
    alice, bob = await people.sign_in("alice"), await people.sign_in("bob")
    first = await alice.post(path, json=body, headers={"Idempotency-Key": "one"})
    again = await alice.post(path, json=body, headers={"Idempotency-Key": "one"})
    second = await alice.post(path, json=body)
    assert (first.status_code, again.content) == (201, first.content)
    assert pointers(await alice.post(path, json=wrong)) == [f"/{field}" for field in sorted(wrong)]
    place, tag = first.headers["Location"], first.headers["ETag"]
    assert (await alice.get(place)).json() == first.json()
    page = await alice.get(path, params={"limit": 1})
    assert page.json() == [second.json()]
    assert (await alice.get(page.links["next"]["url"])).json() == [first.json()]
    assert (await bob.get(path)).json() == []
    for method in ("GET", "DELETE"):
        assert_problem(await bob.request(method, place), *(denied or (404, missing)))
        assert_problem(await people.client.request(method, place), 401, "Not authenticated")
    assert_problem(await alice.delete(place, headers={"If-Match": '"2"'}), 412)
    assert (await alice.delete(place, headers={"If-Match": tag})).status_code == 204
    assert_problem(await alice.get(place), 404, missing)
