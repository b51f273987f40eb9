"""The pages to sign up, in and out."""

from typing import Any

from litestar import Response, get, post

from app.auth.controller import Auth
from app.auth.schemas import Token
from app.pages.forms import required
from app.pages.visit import ACCOUNT, FOR_ALL, FOR_MEMBERS, SIGN_IN, Visit, Visiting, shows
from app.users.controller import Users
from app.users.schemas import UserCreate


@get("/account/sign-up", opt=FOR_ALL)
async def sign_up_page(visit: Visiting) -> Response[Any]:
    """Show the form to open an account."""
    return visit.redirect(visit.next) if visit.user else visit.page("sign-up.html")


@post("/account/sign-up", opt=FOR_ALL | shows("sign-up.html"), status_code=200)
async def sign_up(visit: Visiting, users: Users, auth: Auth) -> Response[Any]:
    """Open an account, and sign in."""
    user = await users.register(visit.read(UserCreate), visit.client)
    return await enter(visit, await auth.open_session(user.id, visit.client), done="registered")


@get("/account/sign-in", opt=FOR_ALL)
async def sign_in_page(visit: Visiting) -> Response[Any]:
    """Show the form to sign in, unless somebody is."""
    return visit.redirect(visit.next) if visit.user else visit.page("sign-in.html")


@post("/account/sign-in", opt=FOR_ALL | shows("sign-in.html"), status_code=200)
async def sign_in(visit: Visiting, auth: Auth) -> Response[Any]:
    """Sign in by name and password."""
    name, password = required(visit.form, "username", "password")
    return await enter(visit, await auth.login(name, password, visit.client))


async def enter(visit: Visit, token: Token, done: str = "") -> Response[Any]:
    """Give the browser a cookie for the session that was opened, and go on; a session that it had before ends."""
    visit.enter(await visit.site.browsers.begin(token))
    if visit.user:
        await visit.site.browsers.end(visit.caller)
    return visit.redirect(visit.next, done if visit.next == ACCOUNT else "")


@get("/account/confirm", opt=FOR_MEMBERS)
async def confirm_page(visit: Visiting) -> Response[Any]:
    """Show the form by which people prove who they are, before they change something that matters."""
    return visit.page("confirm.html")


@post("/account/confirm", opt=FOR_MEMBERS | shows("confirm.html"), status_code=200)
async def confirm(visit: Visiting, auth: Auth) -> Response[Any]:
    """Sign in once more, and go on."""
    (password,) = required(visit.form, "password")
    return await enter(visit, await auth.login(visit.member.username, password, visit.client))


@post("/account/sign-out", opt=FOR_MEMBERS, status_code=200)
async def sign_out(visit: Visiting) -> Response[Any]:
    """End the session."""
    await visit.site.browsers.end(visit.caller)
    visit.leave()
    return visit.redirect(SIGN_IN, "signed-out")
