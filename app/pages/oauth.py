"""The pages of applications: /authorize, and in the account those that may act for a person, and devices."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.response import Redirect

from app.errors import BadRequest
from app.http.feature import Parts
from app.http.problems import app_error, log_failure
from app.http.requests import InTransaction, Provided, check_request
from app.oauth.authorization import AuthorizationRequest, AuthorizationService, InvalidApplication, Refusal, Step
from app.oauth.controller import Clients, Grants
from app.oauth.devices.service import DeviceService
from app.oauth.grants import GrantNotFound
from app.oauth.redirects import source_of
from app.oauth.repository import ClientNotFound, SessionEnded
from app.pages.forms import id_in, required
from app.pages.visit import (
    CONFIRM,
    DECISION,
    FOR_ALL,
    FOR_MEMBERS,
    LONGEST_PATH,
    SIGN_IN,
    FeaturePages,
    Row,
    SignInNeeded,
    Visit,
    Visiting,
    check_level,
    shows,
)
from app.security.second_step import SecondFactorNeeded

AUTHORIZE = "/authorize"
APPLICATIONS = "/account/applications"
DEVICE = "/account/device"
LONGEST_CODE = 40
ROOM = 100
"""For what /authorize adds to its own address when it sends somebody to sign in."""
MAX_FORM_BYTES = 8 * 1024
FAILURES = {500: "server_error", 503: "temporarily_unavailable"}
"""The errors that an application is told in place of statuses: a redirect has none."""
Authorization = Provided[AuthorizationService]


class RequestTooLong(BadRequest):
    """The parameters are longer than anybody needs, and would not fit into the addresses of the pages to sign in."""

    detail = "The application has sent more than fits into one address"


@get(AUTHORIZE, opt=FOR_ALL)
async def authorize(visit: Visiting, authorization: Authorization, state: State) -> Response[Any]:
    """Answer an application, or ask the person what has to be asked first."""
    query = visit.request.scope["query_string"].decode("latin-1")
    try:
        request = await read(authorization, query)
        with failures_sent_back(authorization, request):
            step = await authorization.next_step(request, visit.user)
            if step is not Step.SIGN_IN:
                await check_session(visit, authorization, request)
            match step:
                case Step.SIGN_IN:
                    return to_sign_in(visit, authorization, request, CONFIRM if visit.user else SIGN_IN)
                case Step.CONSENT:
                    return consent_page(visit, request, query, state.parts.scopes)
                case Step.NOTHING:
                    return await approve(visit, authorization, request)
    except Refusal as refusal:
        return visit.redirect(refusal.location)


@contextmanager
def failures_sent_back(authorization: AuthorizationService, request: AuthorizationRequest) -> Generator[None]:
    """Raise Refusal when the block fails by an outage or a bug, which is logged as elsewhere.

    An application whose redirect URI is good is told (RFC 6749, section 4.1.2.1).
    """
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        code = FAILURES.get(app_error(error).status)
        if code is None:
            raise
        raise authorization.refusal(request, code, log_failure(error).detail) from error


async def check_session(visit: Visit, authorization: AuthorizationService, request: AuthorizationRequest) -> None:
    """Raise SecondFactorNeeded, or Refusal where the application wants no question, unless the session is enough."""
    try:
        await check_level(visit, visit.member)
    except SecondFactorNeeded:
        if "none" in request.prompt:
            raise authorization.refusal(request, "interaction_required") from None
        raise


@post(DECISION, opt=FOR_MEMBERS, status_code=200)
async def decide(visit: Visiting, authorization: Authorization) -> Response[Any]:
    """Take the person's answer to the question that they were shown, and no more than that."""
    query = visit.form.get("request", "")
    try:
        request = await read(authorization, query)
        if authorization.must_sign_in_again(request, visit.member):
            return visit.redirect(f"{AUTHORIZE}?{query}")
        if visit.form.get("decision") != "allow":
            raise authorization.refusal(request, "access_denied", "The person has said no")
        with failures_sent_back(authorization, request):
            return await approve(visit, authorization, request)
    except Refusal as refusal:
        return visit.redirect(refusal.location)


@post(AUTHORIZE, opt=FOR_ALL, status_code=303, before_request=check_request, request_max_body_size=MAX_FORM_BYTES)
async def authorize_by_form(request: Request[Any, Any, Any]) -> Redirect:
    """Turn the form of an application into the address with the same parameters: only that brings the cookie along."""
    try:
        pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        raise BadRequest("The form is malformed") from None
    return Redirect(address_with(pairs), status_code=303, headers={"Cache-Control": "no-store"})


async def read(authorization: AuthorizationService, query: str) -> AuthorizationRequest:
    """Return the request of a query. Raise RequestTooLong, InvalidApplication and Refusal."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    except ValueError:  # The query isn't UTF-8.
        raise InvalidApplication from None
    address_with(pairs)
    return await authorization.read(pairs)


def address_with(pairs: Sequence[tuple[str, str]]) -> str:
    """Return the address of /authorize with parameters. Raise RequestTooLong for what no sign-in leads back to."""
    address = f"{AUTHORIZE}?{urlencode(pairs)}"
    if len(quote_plus(address)) > LONGEST_PATH - ROOM:
        raise RequestTooLong
    return address


async def approve(visit: Visit, authorization: AuthorizationService, request: AuthorizationRequest) -> Response[Any]:
    """Return the way back to an application, with a code; the way to sign in, when the session has just ended.

    Raise InvalidApplication when the application has just been removed, and Refusal.
    """
    try:
        return visit.redirect(await authorization.approve(request, visit.member, visit.client))
    except ClientNotFound:
        raise InvalidApplication from None
    except SessionEnded:
        if "none" in request.prompt:
            raise authorization.refusal(request, "login_required") from None
        return to_sign_in(visit, authorization, request, SIGN_IN)


def to_sign_in(
    visit: Visit, authorization: AuthorizationService, request: AuthorizationRequest, page: str
) -> Response[Any]:
    """Return the way to a page to sign in, and back to here."""
    back = f"{AUTHORIZE}?{urlencode(authorization.after_sign_in(request))}"
    return visit.redirect(f"{page}?{urlencode({'next': back})}")


def consent_page(visit: Visit, request: AuthorizationRequest, query: str, about: dict[str, str]) -> Response[Any]:
    """Return the question, whose form is good for this session alone, and leads to the application."""
    return visit.page(
        "consent.html",
        targets=source_of(request.redirect_uri),
        application=request.client.name,
        address=urlsplit(request.redirect_uri).netloc or f"{urlsplit(request.redirect_uri).scheme}:",
        wants=[about[scope] for scope in request.scope.split()],
        asked=query,
        form_token=visit.site.form_tokens.issue(f"session {visit.member.session_id}"),
    )


@get(APPLICATIONS, opt=FOR_MEMBERS)
async def applications_page(visit: Visiting, grants: Grants) -> Response[Any]:
    """Show which application may do what."""
    return visit.page("applications.html", grants=await grants.all(visit.member.id), about=visit.site.scopes)


@post(APPLICATIONS, opt=FOR_MEMBERS, status_code=200)
async def end_application(visit: Visiting, grants: Grants, transaction: InTransaction) -> Response[Any]:
    """End what one of them may do."""
    await grants.end(transaction, visit.caller, id_in(visit.form, "grant_id", GrantNotFound))
    return visit.redirect(APPLICATIONS, "grant-ended")


@get(DEVICE, opt=FOR_MEMBERS)
async def device_page(visit: Visiting) -> Response[Any]:
    """Show the form for the code, which an address may bring along."""
    return visit.page("device.html", code=visit.request.query_params.get("code", "")[:LONGEST_CODE])


@post(DEVICE, opt=FOR_MEMBERS | shows("device.html"), status_code=200)
async def answer_device(
    visit: Visiting, devices: Provided[DeviceService], clients: Clients, state: State
) -> Response[Any]:
    """Ask whether the device of a code may be let in, or take the answer."""
    visit.more["code"] = ""
    (code,) = required(visit.form, "code")
    visit.more["code"] = code[:LONGEST_CODE]
    device = await devices.find(code, visit.member)
    decision = visit.form.get("decision")
    if decision is None:
        application = await clients.read(device.client_row_id)
        wants = [state.parts.scopes.get(scope, scope) for scope in device.scope.split()]
        return visit.page("device-question.html", application=application.name, wants=wants)
    try:
        await devices.answer(device, visit.member, visit.client, is_allowed=decision == "allow")
    except SessionEnded:
        raise SignInNeeded from None
    return visit.redirect(DEVICE, "device-allowed" if decision == "allow" else "device-refused")


def pages(_parts: Parts) -> FeaturePages:
    """Return the pages, and their rows."""
    return FeaturePages(
        [authorize, authorize_by_form, decide, applications_page, end_application, device_page, answer_device],
        [
            Row("applications", "Applications", "Those that may act for you"),
            Row("device", "Devices", "Let one in that has no browser"),
        ],
    )
