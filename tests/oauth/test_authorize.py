"""The pages of /authorize: what people are asked, and what goes back to the application."""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import delete, update

from app.auth.models import LoginSession
from app.database.models import now
from app.oauth.clients import Registered
from app.pages.visit import own_path
from app.security.id_tokens import ID_TOKEN
from app.security.signing.models import StoredSigningKey
from app.security.tokens import ACCESS
from tests.auth.oauth import bearer, execute, refresh, status_of
from tests.factories import client_of, on_sqlite, parts_of
from tests.oauth.browsers import allow, answer_of, authorize, code_by_browser, new_browser
from tests.oauth.flow import CALLBACK, add_client, credentials, exchange, needs_own_keys, parameters
from tests.oauth.test_redirects import TRICKS
from tests.pages.person import Person

pytestmark = pytest.mark.usefixtures("client")  # The application runs, and its connections are closed at the end.


async def items_status(client: AsyncClient, tokens: dict[str, str]) -> int:
    """Return the status of a call of the API with the tokens."""
    return (await client.get("/items/", headers=bearer(tokens))).status_code


async def tokens_by_browser(
    client: AsyncClient, browser: AsyncClient, registered: Registered, **changes: str | None
) -> dict[str, Any]:
    """Let a person grant an application what it asks for, and return its tokens."""
    answer = await exchange(client, registered, await code_by_browser(browser, registered, **changes))
    tokens: dict[str, Any] = answer.json()
    return tokens


async def test_an_application_signs_a_person_in_calls_the_api_refreshes_and_revokes(
    app: Litestar, client: AsyncClient
) -> None:
    """The answer goes back with the state and the issuer; what nobody needs isn't given."""
    application, browser = await add_client(app), await new_browser(app)
    page = await authorize(browser, application)
    assert "Umbrella Counter" in page.text
    policy = page.headers["content-security-policy"]
    assert "form-action 'self' https://app.example.com;" in policy
    assert "frame-ancestors 'none'" in policy
    answer = answer_of(await allow(browser, page))
    assert answer.keys() == {"code", "state", "iss"}
    assert (answer["state"], answer["iss"]) == ("state-of-the-tests", "http://127.0.0.1:8000")
    response = await exchange(client, application, answer["code"])
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    tokens = response.json()
    assert tokens["scope"] == "openid offline_access items:read"
    assert await items_status(client, tokens) == 200
    assert await status_of(client, tokens) == 403  # It has no account:read.
    renewed = await refresh(client, tokens, **credentials(application))
    assert renewed.status_code == 200
    assert await items_status(client, renewed.json()) == 200
    revoked = await client.post("/revoke", data={"token": renewed.json()["refresh_token"], **credentials(application)})
    assert revoked.status_code == 200
    assert await items_status(client, renewed.json()) == 401


@on_sqlite
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": "s256"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": "users:write"}, "invalid_scope"),
        ({"scope": "nothing"}, "invalid_scope"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "select_account"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"request": "eyJ"}, "request_not_supported"),
        ({"request_uri": "https://app.example.com/request"}, "request_uri_not_supported"),
        ({"resource": "https://other.example"}, "invalid_target"),
        ({"nonce": "\0"}, "invalid_request"),
        ({"id_token_hint": "e30.e30."}, "invalid_request"),
        ({"id_token_hint": jwt.encode({"iss": "https://other.example", "sub": "1"}, "k" * 32)}, "invalid_request"),
    ],
)
async def test_a_wrong_request_goes_back_with_its_error(
    app: Litestar, client: AsyncClient, changes: dict[str, str | None], error: str
) -> None:
    """Nobody has to be signed in for it, and no code comes with it."""
    answer = answer_of(await authorize(client, await add_client(app), **changes))
    assert answer["error"] == error
    assert (answer["state"], answer["iss"]) == ("state-of-the-tests", "http://127.0.0.1:8000")
    assert "code" not in answer


@on_sqlite
@pytest.mark.parametrize("uri", [*TRICKS[:-1], None, "javascript:alert(1)"])
@pytest.mark.parametrize("prompt", [None, "none"])
async def test_no_answer_goes_to_an_address_that_is_not_registered(
    app: Litestar, client: AsyncClient, uri: str | None, prompt: str | None
) -> None:
    """The person is told, and nobody is redirected, with `prompt=none` neither."""
    answer = await authorize(client, await add_client(app), redirect_uri=uri, prompt=prompt)
    assert answer.status_code == 400
    assert "location" not in answer.headers


async def test_an_unknown_application_is_told_to_the_person(app: Litestar, client: AsyncClient) -> None:
    """A browser gets a page, and other programs a problem; twice the same parameter is as good as a wrong one."""
    application = await add_client(app)
    query = f"client_id={application.client.client_id}&redirect_uri={CALLBACK}"
    for twice in (f"{query}&client_id=other", f"{query}&redirect_uri=https://evil.example", "client_id=unknown"):
        page = await client.get(f"/authorize?{twice}", headers={"Accept": "text/html"})
        assert (page.status_code, page.headers["content-type"]) == (400, "text/html; charset=utf-8")
        assert "location" not in page.headers
    problem = await client.get("/authorize?client_id=unknown")
    assert (problem.status_code, problem.headers["content-type"]) == (400, "application/problem+json")


async def test_a_repeated_parameter_goes_back_as_an_error(app: Litestar, client: AsyncClient) -> None:
    """A state that comes twice is neither of the two."""
    application = await add_client(app)
    query = f"client_id={application.client.client_id}&redirect_uri={CALLBACK}&state=a&state=b"
    answer = answer_of(await client.get(f"/authorize?{query}"))
    assert answer["error"] == "invalid_request"
    assert "state" not in answer
    odd = urlencode([*parameters(application).items(), ('a"ü\\', "1"), ('a"ü\\', "2")])
    told = answer_of(await client.get(f"/authorize?{odd}"))["error_description"]
    assert not re.search(r'[^ -~]|["\\]', told)  # RFC 6749, section 4.1.2.1


async def test_prompt_none_asks_nobody(app: Litestar, client: AsyncClient) -> None:
    """The errors tell what would have to be asked."""
    application, browser = await add_client(app), await new_browser(app)
    assert answer_of(await authorize(client, application, prompt="none"))["error"] == "login_required"
    assert answer_of(await authorize(browser, application, prompt="none"))["error"] == "consent_required"
    await code_by_browser(browser, application)
    assert "code" in answer_of(await authorize(browser, application, prompt="none"))
    await execute(app, update(LoginSession).values(authenticated_at=now() - timedelta(minutes=5)))
    late = answer_of(await authorize(browser, application, prompt="none", max_age="60"))
    assert late["error"] == "login_required"
    assert "code" in answer_of(await authorize(browser, application, prompt="none", max_age="600"))


async def test_a_person_signs_in_again_where_the_application_wants_it(app: Litestar) -> None:
    """The way back doesn't ask again, and a sign-in of before isn't enough for it."""
    application, browser = await add_client(app), await new_browser(app)
    await code_by_browser(browser, application)
    for changes in ({"prompt": "login"}, {"max_age": "0"}):
        sent = await authorize(browser, application, **changes)
        assert sent.status_code == 303
        assert sent.headers["location"].startswith("/account/confirm?next=")
        await execute(app, update(LoginSession).values(authenticated_at=now() - timedelta(minutes=5)))
        form = await browser.get(sent.headers["location"])
        assert form.status_code == 200
        back = str(form.url.params["next"])
        assert (await browser.get(back)).headers["location"].startswith("/account/confirm?next=")
        await execute(app, update(LoginSession).values(authenticated_at=now()))
        assert "code" in answer_of(await browser.get(back))


@on_sqlite
@pytest.mark.parametrize("moment", ["0", "1", "99999999999", "soon", "1" * 400])
async def test_nobody_who_sends_a_time_is_asked_for_less(app: Litestar, moment: str) -> None:
    """`auth_after` is this service's own: from elsewhere it can't switch off what the application wants."""
    application, browser = await add_client(app), await new_browser(app)
    await code_by_browser(browser, application)
    await execute(app, update(LoginSession).values(authenticated_at=now() - timedelta(days=5)))
    silent = answer_of(await authorize(browser, application, prompt="none", max_age="1", auth_after=moment))
    assert (silent["error"], "code" in silent) == ("login_required", False)
    assert "code" in answer_of(await authorize(browser, application, auth_after=moment))
    for changes in ({"prompt": "login"}, {"max_age": "1"}):
        sent = await authorize(browser, application, auth_after=moment, **changes)
        assert sent.headers["location"].startswith("/account/confirm?next=")
        (back,) = parse_qs(urlsplit(sent.headers["location"]).query)["next"]
        assert (await browser.get(back)).headers["location"].startswith("/account/confirm?next=")
        await execute(app, update(LoginSession).values(authenticated_at=now()))
        assert "code" in answer_of(await browser.get(back))
        await execute(app, update(LoginSession).values(authenticated_at=now() - timedelta(days=5)))


@needs_own_keys
async def test_an_answer_for_one_person_goes_back_for_nobody_else(app: Litestar, client: AsyncClient) -> None:
    """An application with that person's ID token is told before anybody else is asked, also when the token is old."""
    application = await add_client(app)
    alice, bob = await new_browser(app), await new_browser(app, "bob")
    hint = (await tokens_by_browser(client, alice, application))["id_token"]
    key = await parts_of(app).signing_keys.signer_for("RS256")
    old = key.sign(ID_TOKEN, jwt.decode(hint, options={"verify_signature": False}) | {"exp": 1})
    for token in (hint, old):
        assert "code" in answer_of(await authorize(alice, application, prompt="none", id_token_hint=token))
        for changes in ({}, {"prompt": "none"}, {"prompt": "login"}):
            answer = answer_of(await authorize(bob, application, id_token_hint=token, **changes))
            assert (answer["error"], "code" in answer) == ("login_required", False)
    await code_by_browser(bob, application)
    answer = answer_of(await authorize(bob, application, id_token_hint=hint))
    assert (answer["error"], "code" in answer) == ("login_required", False)


@needs_own_keys
@pytest.mark.parametrize("made", ["forged", "another's", "access", "gone"])
async def test_nobody_is_told_who_is_signed_in_by_a_hint_of_their_own(
    app: Litestar, client: AsyncClient, made: str
) -> None:
    """The person is asked first, and the answer is for nobody else all the same."""
    application, other = await add_client(app), await add_client(app)
    alice, bob = await new_browser(app), await new_browser(app, "bob")
    hint = (await tokens_by_browser(client, alice, other if made == "another's" else application))["id_token"]
    if made == "forged":
        hint = hint[:-8] + ("AAAAAAAA" if hint[-8:] != "AAAAAAAA" else "BBBBBBBB")
    elif made == "access":
        claims = jwt.decode(hint, options={"verify_signature": False})
        hint = (await parts_of(app).signing_keys.signer_for("RS256")).sign(ACCESS, claims)
    elif made == "gone":
        await execute(app, delete(StoredSigningKey))
        parts_of(app).signing_keys.forget()
    silent = answer_of(await authorize(bob, application, prompt="none", id_token_hint=hint))
    assert silent["error"] == "consent_required"
    asked = answer_of(await allow(bob, await authorize(bob, application, id_token_hint=hint)))
    assert (asked["error"], "code" in asked) == ("login_required", False)
    await code_by_browser(bob, application)
    for changes in ({}, {"prompt": "none"}):
        answer = answer_of(await authorize(bob, application, id_token_hint=hint, **changes))
        assert (answer["error"], "code" in answer) == ("login_required", False)


async def test_a_person_is_asked_again_for_more_and_not_for_less(app: Litestar, client: AsyncClient) -> None:
    """What was granted before stays granted; the new session has what this request asks for, and no more."""
    application, browser = await add_client(app), await new_browser(app)
    await tokens_by_browser(client, browser, application, scope="items:read")
    assert (await authorize(browser, application, scope="items:read account:read")).status_code == 200
    widened = await authorize(browser, application, scope="items:read account:read", prompt="none")
    assert answer_of(widened)["error"] == "consent_required"
    both = await tokens_by_browser(client, browser, application, scope="account:read items:read")
    assert await status_of(client, both) == 200
    fewer = await tokens_by_browser(client, browser, application, scope="items:read", prompt="none")
    assert await status_of(client, fewer) == 403
    assert fewer["scope"] == "items:read"
    assert (await authorize(browser, application, scope="items:read", prompt="consent")).status_code == 200


async def test_the_form_to_sign_in_may_lead_to_the_application(app: Litestar, client: AsyncClient) -> None:
    """A browser stops a form at the first redirect that its page's policy doesn't name."""
    application = await add_client(app)
    sent = await authorize(client, application)
    form = await client.get(sent.headers["location"])
    assert "form-action 'self' https://app.example.com;" in form.headers["content-security-policy"]
    for uri in ("https://EVIL.example", "https:", "javascript:alert(1)", "https://a;script-src x", ""):
        page = await client.get("/account/sign-in", params={"next": f"/authorize?{urlencode({'redirect_uri': uri})}"})
        assert "EVIL" not in page.headers["content-security-policy"]
        assert page.headers["content-security-policy"].count("script-src") == 1


@on_sqlite
async def test_the_form_to_sign_in_has_the_name_that_the_application_expects(app: Litestar) -> None:
    """It is a text and nothing else, and nothing but a way to an application brings one."""
    application, person = await add_client(app), Person(app)
    hint = '"><b>' + "a" * 400
    for name, shown in (("bob", "bob"), (hint, hint[:320]), (None, "")):
        sent = await authorize(person.client, application, login_hint=name)
        assert (await person.open(sent.headers["location"])).form.fields["username"] == shown
    for path in ("/account?login_hint=bob", "/authorize/x?login_hint=bob", "/items?a=/authorize?login_hint=bob"):
        page = await person.open(f"/account/sign-in?{urlencode({'next': path, 'login_hint': 'bob'})}")
        assert page.form.fields["username"] == ""
    sent = await authorize(person.client, application, login_hint="bob")
    page = await person.refused(sent.headers["location"], 401, username="carol", password="wrong")
    assert page.form.fields["username"] == "carol"


async def test_a_no_goes_back_and_grants_nothing(app: Litestar) -> None:
    application, browser = await add_client(app), await new_browser(app)
    answer = answer_of(await allow(browser, await authorize(browser, application), "deny"))
    assert answer["error"] == "access_denied"
    assert answer_of(await authorize(browser, application, prompt="none"))["error"] == "consent_required"


async def test_the_question_is_good_in_one_session_only(app: Litestar, client: AsyncClient) -> None:
    """Neither somebody else's session nor a later one of the same person answers it."""
    application, browser = await add_client(app), await new_browser(app)
    page = await authorize(browser, application)
    other = await new_browser(app, "mallory")
    assert (await allow(other, page)).status_code == 403
    nobody = await allow(client, page)
    assert nobody.headers["location"].startswith("/account/sign-in")
    assert answer_of(await authorize(browser, application, prompt="none"))["error"] == "consent_required"


@on_sqlite
async def test_parameters_that_no_sign_in_leads_back_to_are_refused(app: Litestar, client: AsyncClient) -> None:
    """The longest that are taken come back from the sign-in; longer ones are a page, whatever signs are in them."""
    application = await add_client(app)
    stranger = client_of(app, Accept="text/html")
    for sign, most in (("a", 5000), (":", 900)):
        where = (await authorize(stranger, application, state=sign * most)).headers["location"]
        (back,) = parse_qs(urlsplit(where).query)["next"]
        assert own_path(back) == back
        assert len(where) < 7000
        data = parameters(application, state=sign * (7000 * most // 5000))
        for answer in (await stranger.get("/authorize", params=data), await client.post("/authorize", data=data)):
            assert answer.status_code == 400
            assert "more than fits into one address" in answer.text


async def test_a_form_of_an_application_becomes_an_address(app: Litestar, client: AsyncClient) -> None:
    """A cookie doesn't come along with a form from elsewhere, but with the address that follows."""
    application = await add_client(app)
    data = {"client_id": application.client.client_id, "redirect_uri": CALLBACK, "state": "a b&c"}
    answer = await client.post("/authorize", data=data, headers={"Origin": "https://app.example.com"})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/authorize?client_id=")
    assert answer_of(await client.get(answer.headers["location"]))["state"] == "a b&c"


async def test_an_application_of_the_operators_asks_nobody(app: Litestar) -> None:
    """Unless it wants to."""
    application, browser = await add_client(app, first_party=True), await new_browser(app)
    assert "code" in answer_of(await authorize(browser, application))
    assert (await authorize(browser, application, prompt="consent")).status_code == 200
