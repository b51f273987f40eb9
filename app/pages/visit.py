"""A browser's visit of a page: who is signed in, what was sent, and the answers, all with the headers of pages."""

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

from jinja2.utils import Namespace
from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.response import Redirect, Template
from litestar.types import ControllerRouterHandler
from markupsafe import Markup

from app.auth.browsers import BrowserSessions, SessionCookie
from app.auth.caller import Caller, SignedIn
from app.auth.two_steps import TICKET_SECONDS, Ticket, TwoStepSignIn
from app.errors import Unauthorized
from app.http.access import LENIENT, PUBLIC, check_fresh, is_fresh
from app.http.client import calling_client
from app.http.docs.pages import assets_version
from app.http.feature import Parts
from app.http.requests import SAFE_METHODS, Provided, check_request
from app.http.site import SiteHeader, path_to_root
from app.pages.forms import FORM_TOKEN, FormRefused, FormTokens, StructT, check_origin, read_page_form, read_struct
from app.pages.looks import Assets
from app.pages.notices import NOTICES
from app.security.limits import Client

ACCOUNT = "/account"
SIGN_IN = "/account/sign-in"
CODE = "/account/sign-in/code"
SIGN_IN_BY_PASSKEY = "/account/sign-in/passkey"
CONFIRM = "/account/confirm"
CONFIRM_BY_PASSKEY = "/account/confirm/passkey"
SECURITY = "/account/security"
MEMBERS_KEY = "members"
PAGE_KEY = "page"
BESIDE_KEY = "beside"
FOR_ALL = PUBLIC | LENIENT
"""The options of pages. The API's guard passes over them: it takes no cookie, and they take no bearer token."""
FOR_MEMBERS = FOR_ALL | {MEMBERS_KEY: True}
"""Of pages for whoever is signed in; others are sent to sign in, and back."""
# A browser takes a backslash for a slash, and passes over tabs and line breaks, so none may be in the path.
OWN_PATH = re.compile(r"/(?!/)[!-\[\]-~]*\Z")
# Of a path within an address, where a character may take three. Proxies take 8 KB of headers, and a form has 16 KB.
LONGEST_PATH = 6000
LONGEST_HINT = 320
"""Of the characters of the longest address."""
# Nobody comes back to these.
DECISION = "/authorize/decision"
PASSED_ONCE = (
    DECISION,
    SIGN_IN,
    SIGN_IN_BY_PASSKEY,
    CODE,
    CONFIRM,
    CONFIRM_BY_PASSKEY,
    "/account/sign-up",
    "/account/sign-out",
)
SOURCE = re.compile(r"https?://[a-z0-9.\[\]:-]+|[a-z][a-z0-9+-]*\.[a-z0-9+.-]*:")
RANDOM_BYTES = 32
VALID_BROWSER = re.compile(r"[\w-]{43}\Z", re.ASCII)
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'{targets}; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "same-origin"}


class SignInNeeded(Unauthorized):
    """The page is for whoever is signed in, and nobody is, or the session has ended."""


class Row(NamedTuple):
    """A row of the overview of an account: the path below it, and two texts."""

    path: str
    name: str
    value: str


HasPasskey = Callable[[int], Awaitable[bool]]
"""Returns whether the user with an id has a passkey."""


class FeaturePages(NamedTuple):
    """The pages of one feature, their rows in the overview, and who has a passkey, where the feature knows."""

    routes: Sequence[ControllerRouterHandler]
    rows: Sequence[Row] = ()
    has_passkey: HasPasskey | None = None


class Site:
    """The parts that all pages share."""

    def __init__(
        self,
        parts: Parts,
        browsers: BrowserSessions,
        sign_in: TwoStepSignIn,
        has_passkey: HasPasskey,
        rows: Sequence[Row],
    ) -> None:
        """`rows` are those of the overview that lead to pages of features."""
        self.settings = parts.settings
        self.rows = rows
        self.features = parts.features
        self.scopes = parts.scopes
        self.checks = parts.checks
        self.event_types = parts.events.types
        self.browsers = browsers
        self.sign_in = sign_in
        self.has_passkey = has_passkey
        self.form_tokens = FormTokens(parts.settings.secret_key)
        self.assets = Assets(parts.settings)
        self.header = SiteHeader(parts.settings.pages_title, parts.links)
        address = urlsplit(parts.settings.url)
        self.origin = f"{address.scheme}://{address.netloc}".lower()
        self.is_https = address.scheme == "https"
        # Browsers keep a cookie of this prefix from other hosts and from plain http (RFC 6265bis, section 4.1.3.2).
        prefix = "__Host-" if self.is_https else ""
        self.session_cookie, self.browser_cookie = f"{prefix}session", f"{prefix}browser"
        self.ticket_cookie = f"{prefix}sign-in"

    def cookie(self, name: str, value: str, max_age: int | None = None) -> Cookie:
        """Return a cookie that no script sees; without `max_age`, the browser keeps it until it is closed."""
        return Cookie(
            key=name, value=value, max_age=max_age, path="/", httponly=True, secure=self.is_https, samesite="lax"
        )


class Visit:
    """One request of a browser's for a page."""

    def __init__(self, request: Request[Any, Any, Any], site: Site, user: SignedIn | None) -> None:
        self.request = request
        self.site = site
        self.user = user
        self.form: dict[str, str] = {}
        self.more: dict[str, object] = {}
        """The values that the template of a form needs besides, should the form be shown again with errors."""
        self.cookies: list[Cookie] = []
        browser = request.cookies.get(site.browser_cookie, "")
        self.is_known = bool(VALID_BROWSER.match(browser))
        self.browser = browser if self.is_known else secrets.token_urlsafe(RANDOM_BYTES)

    @property
    def client(self) -> Client:
        """The client, by which limits count."""
        return calling_client(self.request)

    @property
    def member(self) -> SignedIn:
        """The user who is signed in. Raise SignInNeeded."""
        if self.user is None:
            raise SignInNeeded
        return self.user

    @property
    def caller(self) -> Caller:
        """The user who is signed in, as services take them. Raise SignInNeeded."""
        return Caller(self.member.id, self.member.session_id, self.client)

    @property
    def next(self) -> str:
        """The path of this service to which a sign-in leads, as the form or the query has it; else the account's."""
        return own_path(self.form.get("next", "") or self.request.query_params.get("next", "")) or ACCOUNT

    @property
    def subject(self) -> str:
        """The browser or the session to which the page's forms belong."""
        if self.user and has_route(self.request) and self.request.route_handler.opt.get(MEMBERS_KEY):
            return f"session {self.user.session_id}"
        return f"browser {self.browser}"

    def read(self, struct: type[StructT], **more: object) -> StructT:
        """Return the form, with what else there is, as the Struct that the API takes. Raise InvalidFields."""
        return read_struct(self.form | more, struct)

    def page(
        self,
        template: str,
        status: int = 200,
        *,
        targets: str = "",
        headers: Mapping[str, str] | None = None,
        **context: object,
    ) -> Response[Any]:
        """Return a page. `targets` are origins to which its forms may lead, by redirects, besides this service's."""
        targets = targets or way_out(self.next)
        policy = POLICY.format(targets=f" {targets}" if targets else "")
        self.know()
        return Template(
            template,
            context=self.context() | self.more | context,
            status_code=status,
            media_type="text/html",
            cookies=self.cookies,
            headers={**(headers or {}), **HEADERS, "Content-Security-Policy": policy},
        )

    def context(self) -> dict[str, object]:
        """Return what every template may use."""
        root = path_to_root(self.request)
        return {
            "title": self.site.settings.pages_title,
            "root": root or "./",
            "assets": f"{root}account/assets/{self.site.assets.version}",
            "icon": f"{root}docs/assets/{assets_version()}/favicon.svg",
            "header": self.header(root),
            "features": self.site.features,
            "rows": self.site.rows,
            "registration_is_open": self.site.settings.registration == "open",
            "password_min_length": self.site.settings.effective_password_min_length,
            "user": self.user,
            "form": self.form,
            "form_token": self.site.form_tokens.issue(self.subject),
            "next": "" if self.next == ACCOUNT else self.next,
            "login_hint": login_hint(self.next),
            "notice": NOTICES.get(self.request.query_params.get("done", "")),
            "problem": None,
            "errors": {},
            "focus": Namespace(taken=False),
        }

    def header(self, root: str) -> Markup:
        """Return the header that all pages share, with a button to sign out where somebody is signed in."""
        more = ""
        if self.user:
            token = self.site.form_tokens.issue(f"session {self.user.session_id}")
            more = (
                f'<form method="post" action="{root}account/sign-out">'
                f'<input type="hidden" name="{FORM_TOKEN}" value="{token}">'
                '<button class="link">Sign out</button></form>'
            )
        return Markup(self.site.header(root, more))  # noqa: S704 - the texts in it were escaped

    def redirect(self, path: str, done: str = "", then: str = ACCOUNT) -> Response[Any]:
        """Return the way to a page, which says what was done (`done` is a name in NOTICES), and leads on to another."""
        values = {"done": done, "next": "" if then == ACCOUNT else then}
        query = urlencode({name: value for name, value in values.items() if value})
        path = f"{path}?{query}" if query else path
        return Redirect(path, status_code=303, cookies=self.cookies, headers=HEADERS)

    def enter(self, cookie: SessionCookie) -> None:
        """Sign the browser in with the answer."""
        self.cookies.append(self.site.cookie(self.site.session_cookie, cookie.value, cookie.max_age))

    @property
    def ticket(self) -> str:
        """The ticket of whoever has proved a password, and has still to bring a code; an empty text without one."""
        return self.request.cookies.get(self.site.ticket_cookie, "")

    def keep_ticket(self, ticket: Ticket) -> None:
        """Give the browser a ticket with the answer."""
        self.know()
        self.cookies.append(self.site.cookie(self.site.ticket_cookie, ticket.value, TICKET_SECONDS))

    def drop_ticket(self) -> None:
        """Take the ticket from the browser with the answer, if it has one."""
        if self.ticket:
            self.cookies.append(self.site.cookie(self.site.ticket_cookie, "", 0))

    def know(self) -> None:
        """Give a browser the cookie by which it is known, to which its forms and tickets are bound."""
        if not self.is_known:
            self.cookies.append(self.site.cookie(self.site.browser_cookie, self.browser))

    def leave(self) -> None:
        """Sign the browser out with the answer."""
        self.cookies.append(self.site.cookie(self.site.session_cookie, "", 0))


Visiting = Provided[Visit]


def own_path(text: str) -> str:
    """Return a path of this service as it is, and an empty text for anything else, or one that is too long."""
    may_be = OWN_PATH.match(text) and len(quote_plus(text)) <= LONGEST_PATH
    return text if may_be and urlsplit(text).path.rstrip("/") not in PASSED_ONCE else ""


def way_out(path: str) -> str:
    """Return what a policy calls the place to which a sign-in leads in the end: an application's origin or scheme.

    A browser lets a form lead nowhere else, by redirects neither. It is empty where the path stays here.
    """
    match = SOURCE.match(asked_of(path, "redirect_uri"))
    return match[0] if match else ""


def login_hint(path: str) -> str:
    """Return the name by which an application expects whoever signs in; it is empty where the path leads to none."""
    return asked_of(path, "login_hint")[:LONGEST_HINT]


def asked_of(path: str, name: str) -> str:
    """Return a parameter of an application's request, to which a path leads; an empty text where there is none."""
    parts = urlsplit(path)
    values = parse_qs(parts.query).get(name) if parts.path == "/authorize" else None
    return values[0] if values else ""


def has_route(request: Request[Any, Any, Any]) -> bool:
    """Return whether a request has found a route."""
    return request.scope.get("route_handler") is not None


async def browser_session(request: Request[Any, Any, Any]) -> SignedIn | None:
    """Return who is signed in by the browser's cookie; None where nobody is."""
    site: Site = request.app.state.site
    return await site.browsers.signed_in(request.cookies.get(site.session_cookie, ""))


async def admit(request: Request[Any, Any, Any]) -> None:
    """Begin a visit, before the page's handler runs.

    Raise what `check_request`, `check_fresh` and the checks of features raise, SignInNeeded, and FormRefused for a form
    of another site or without its token.
    """
    await check_request(request)
    visit = Visit(request, request.app.state.site, await browser_session(request))
    request.scope["state"]["visit"] = visit
    if visit.user:
        request.scope["user"] = visit.user
    if request.method not in SAFE_METHODS:
        check_origin(request, visit.site.origin)
    if request.route_handler.opt.get(MEMBERS_KEY) and visit.user is None:
        raise SignInNeeded
    if visit.user:
        if request.route_handler.opt.get(MEMBERS_KEY):
            await check_level(visit, visit.user)
        if is_fresh(request.route_handler):
            check_fresh(visit.user.authenticated_at, request.app.state.fresh_sign_in)
    if request.method not in SAFE_METHODS:
        visit.form = await read_page_form(request)
        if not visit.site.form_tokens.is_valid(visit.form.pop(FORM_TOKEN, ""), visit.subject):
            raise FormRefused


async def check_level(visit: Visit, user: SignedIn) -> None:
    """Raise what the checks of features raise, as they do at the API: SecondFactorNeeded, say."""
    for check in visit.site.checks:
        await check(visit.request, user)


def visit_of(request: Request[Any, Any, Any]) -> Visit:
    """Return the visit that `admit` has begun; one of nobody's where the request didn't get that far."""
    visit: Visit | None = request.scope["state"].get("visit")
    return visit or Visit(request, request.app.state.site, None)


def shows(template: str, *, beside: str = "") -> dict[str, str]:
    """Return the option of a form's route: with errors, the form is shown again by this template.

    What is wrong as a whole stands `beside` a field, where one is given, else above the form.
    """
    return {PAGE_KEY: template, BESIDE_KEY: beside}
