"""The pages of passkeys: to sign in by one, to prove by one who one is, and to look after them."""

from typing import Any

from litestar import Response, get, post

from app.errors import AppError
from app.factors.listing import FactorList
from app.factors.passkeys.controller import Passkeys
from app.factors.passkeys.schemas import (
    CreationOptions,
    NewCredential,
    PasskeyCreate,
    PasskeyUpdate,
    RequestOptions,
    SignedCredential,
)
from app.factors.passkeys.service import MAX_PASSKEYS, PasskeyNotFound, UnverifiedPasskey
from app.factors.passkeys.sign_in import PasskeySignIn, WrongPasskey, read_credential
from app.factors.reauthentication import Reauthentication, WrongProof
from app.factors.schemas import PasskeyRead
from app.http.access import ANY_LEVEL, FRESH
from app.http.requests import Provided
from app.pages.entrance import enter
from app.pages.forms import id_in
from app.pages.visit import (
    ACCOUNT,
    CONFIRM,
    CONFIRM_BY_PASSKEY,
    FOR_ALL,
    FOR_MEMBERS,
    HEADERS,
    SECURITY,
    SIGN_IN,
    SIGN_IN_BY_PASSKEY,
    Visit,
    Visiting,
    shows,
)

PASSKEY = f"{SECURITY}/passkey"
NEW, REMOVE = f"{PASSKEY}/new", f"{PASSKEY}/remove"
OPEN = FOR_MEMBERS | ANY_LEVEL
CREDENTIAL = "credential"
"""The field of what a device has answered, as JSON."""
Factors = Provided[FactorList]
SignIn = Provided[PasskeySignIn]


class PasskeyRefused(AppError):
    """A device has sent something else than it must, or too late; the status is the API's."""

    detail = "The passkey could not be verified, or it took too long. Try it again"

    def __init__(self, error: WrongPasskey | WrongProof | UnverifiedPasskey) -> None:
        super().__init__(headers=error.headers)
        self.status = error.status


@get(SIGN_IN_BY_PASSKEY, opt=FOR_ALL)
async def to_sign_in(visit: Visiting) -> Response[Any]:
    """Lead to the page that has the button, as whoever opens the form's own address needs."""
    return visit.redirect(SIGN_IN, then=visit.next)


@post(SIGN_IN_BY_PASSKEY, opt=FOR_ALL | shows("sign-in.html", beside=CREDENTIAL), status_code=200)
async def sign_in(visit: Visiting, passkey_sign_in: SignIn) -> Response[Any]:
    """Sign in by what a passkey has signed, which needs neither a name nor a code."""
    try:
        token = await passkey_sign_in.sign_in(visit.form.get(CREDENTIAL, ""), visit.client)
    except WrongPasskey as error:
        raise PasskeyRefused(error) from None
    visit.drop_ticket()
    return await enter(visit, token)


@get(CONFIRM_BY_PASSKEY, opt=OPEN)
async def to_confirm(visit: Visiting) -> Response[Any]:
    """Lead to the page that has the button."""
    return visit.redirect(CONFIRM, then=visit.next)


@post(f"{CONFIRM}/options", opt=OPEN, status_code=200)
async def begin_proof(visit: Visiting, passkey_sign_in: SignIn) -> Response[RequestOptions]:
    """Send what the device needs to sign in this session."""
    return Response(await passkey_sign_in.options(visit.member), headers=HEADERS)


@post(CONFIRM_BY_PASSKEY, opt=OPEN | shows("confirm.html", beside=CREDENTIAL), status_code=200)
async def confirm(visit: Visiting, reauthentication: Provided[Reauthentication]) -> Response[Any]:
    """Prove by a passkey who one is, and go on in this session, with another cookie."""
    visit.more = {"has_passkey": True}
    credential = read_credential(visit.form.get(CREDENTIAL, ""), SignedCredential)
    try:
        await reauthentication.by_passkey(visit.member, visit.caller, credential)
    except WrongProof as error:
        raise PasskeyRefused(error) from None
    visit.enter(await visit.site.browsers.renew(visit.member))
    return visit.redirect(visit.next)


@get(NEW, opt=OPEN | FRESH)
async def new_page(visit: Visiting, factor_list: Factors, passkeys: Passkeys) -> Response[Any]:
    """Show the form for a new passkey; lead back where there are as many as one may have."""
    await passkeys.policy.check_change(visit.member)
    factors = await factor_list.read(visit.member.id)
    if len(factors.passkeys) >= MAX_PASSKEYS:
        return visit.redirect(SECURITY)
    visit.more = device_of(visit)
    return visit.page("security-passkey-new.html")


@post(f"{NEW}/options", opt=OPEN | FRESH, status_code=200)
async def begin_passkey(visit: Visiting, passkeys: Passkeys) -> Response[CreationOptions]:
    """Send what the device needs to make a key."""
    return Response(await passkeys.creation_options(visit.member), headers=HEADERS)


@post(NEW, opt=OPEN | FRESH | shows("security-passkey-new.html", beside=CREDENTIAL), status_code=200)
async def add_passkey(visit: Visiting, passkeys: Passkeys) -> Response[Any]:
    """Add the key that a device has made."""
    visit.more = device_of(visit)
    credential = read_credential(visit.form.get(CREDENTIAL, ""), NewCredential)
    try:
        await passkeys.add(visit.member, visit.caller, visit.read(PasskeyCreate, credential=credential))
    except UnverifiedPasskey as error:
        raise PasskeyRefused(error) from None
    return visit.redirect(SECURITY, "passkey-added") if visit.next == ACCOUNT else visit.redirect(visit.next)


@get(PASSKEY, opt=OPEN)
async def passkey_page(visit: Visiting, factor_list: Factors) -> Response[Any]:
    """Show the form for another name of a passkey, and the way to remove it."""
    return visit.page("security-passkey.html", passkey=await chosen(visit, factor_list))


@post(PASSKEY, opt=OPEN | shows("security-passkey.html"), status_code=200)
async def rename_passkey(visit: Visiting, passkeys: Passkeys, factor_list: Factors) -> Response[Any]:
    """Give a passkey another name."""
    visit.more["passkey"] = passkey = await chosen(visit, factor_list)
    await passkeys.rename(visit.member.id, passkey.id, visit.read(PasskeyUpdate).name)
    return visit.redirect(SECURITY, "saved")


@get(REMOVE, opt=OPEN | FRESH)
async def remove_page(visit: Visiting, factor_list: Factors) -> Response[Any]:
    """Show the form that removes a passkey."""
    return visit.page("security-passkey-remove.html", passkey=await chosen(visit, factor_list))


@post(REMOVE, opt=OPEN | FRESH, status_code=200)
async def remove_passkey(visit: Visiting, passkeys: Passkeys) -> Response[Any]:
    """Remove a passkey."""
    await passkeys.remove(visit.member, visit.caller, id_in(visit.form, "passkey_id", PasskeyNotFound))
    return visit.redirect(SECURITY, "passkey-removed")


async def chosen(visit: Visit, factor_list: FactorList) -> PasskeyRead:
    """Return the passkey that the form or the address names. Raise PasskeyNotFound."""
    passkey_id = id_in({**visit.request.query_params, **visit.form}, "passkey_id", PasskeyNotFound)
    factors = await factor_list.read(visit.member.id)
    found = next((passkey for passkey in factors.passkeys if passkey.id == passkey_id), None)
    if found is None:
        raise PasskeyNotFound
    return found


def device_of(visit: Visit) -> dict[str, object]:
    """Return the device that the person uses, whose name the form proposes for a new passkey."""
    return {"device": visit.client.device}


PAGES = [
    to_sign_in,
    sign_in,
    to_confirm,
    begin_proof,
    confirm,
    new_page,
    begin_passkey,
    add_passkey,
    passkey_page,
    rename_passkey,
    remove_page,
    remove_passkey,
]
