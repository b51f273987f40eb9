"""Hooks of Schemathesis: they sign its requests in, put rows into them that exist, and count their answers.

It loads this module into its own process, whose environment has the settings of the service under test. When it ends,
`answers.json` in its folder has how often each operation was answered with each status.
"""

import asyncio
import atexit
import json
import os
from collections import Counter, defaultdict
from collections.abc import Coroutine
from datetime import timedelta
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import schemathesis
from email_validator import SPECIAL_USE_DOMAIN_NAMES
from schemathesis import AuthContext, Case, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.generation.meta import TestPhase
from schemathesis.openapi.checks import RejectedPositiveData
from sqlalchemy import select

from app.api_tokens.models import ApiToken
from app.api_tokens.schemas import MAX_SCOPES
from app.api_tokens.service import NoRightToScope, TooManyTokens
from app.auth.credentials import InvalidResetToken, reset_state
from app.auth.models import LoginSession
from app.auth.repository import CredentialRepository, StoredCredentials
from app.auth.schemas import Token
from app.database.search import MAX_TERMS
from app.database.sessions import Database
from app.errors import PreconditionFailed
from app.http.idempotency import KeyReused
from app.http.paging import InvalidCursor
from app.items.repository import ItemRepository
from app.items.schemas import ItemCreate
from app.items.service import ItemService
from app.main import create_app
from app.security.limits import Client
from app.security.random_tokens import digest
from app.security.tokens import ACCESS, RESET, VERIFICATION
from app.settings import Settings
from app.users.models import User
from app.users.repository import NameTaken
from app.users.service import InvalidVerificationToken, address_state
from tests.api_tokens.tokens import add_token
from tests.factories import add_user, auth_service
from tests.users.undo import undo_token

Result = TypeVar("Result")
T = TypeVar("T")

SUPERUSER = os.environ["FUZZ_AS"] == "superuser"
# No schema says that a name is taken, a version isn't the latest, or a token, cursor or key was never given out; nor
# which scopes there are, or that a time has passed; nor does any count words.
STATE = {kind.detail for kind in (InvalidResetToken, InvalidVerificationToken, NameTaken, PreconditionFailed)}
STATE |= {kind.detail for kind in (NoRightToScope, TooManyTokens)}
BEYOND_SCHEMAS = {(error.pointer, error.detail) for kind in (InvalidCursor, KeyReused) for error in kind().errors} | {
    ("/q", f"must have at most {MAX_TERMS} words"),
    *((f"/scopes/{place}", "is no scope of a token") for place in range(MAX_SCOPES)),
    *(("/expires_at", detail) for detail in ("has passed", "is too late")),
}

EXAMPLE_OF_KEY = "8e03978e-40d5-43e8-bc93-6f9f39d36d7f"
addresses = (str(IPv4Address(number)) for number in count(int(IPv4Address("10.0.0.1"))))
names = (f"somebody-{os.getpid()}-{number}" for number in count(1))
answers: defaultdict[str, Counter[int]] = defaultdict(Counter)
runner = asyncio.Runner()
app = create_app(Settings.load())
database: Database = app.state.database
atexit.register(lambda: Path("answers.json").write_text(json.dumps(answers)))


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine, and return its result."""
    return runner.run(coroutine)


# The caller -----------------------------------------------------------------------------------------------------------


async def open_session(user_id: int) -> Token:
    """Open a session, and return its tokens."""
    return await auth_service(app).open_session(user_id, Client("127.0.0.1", "127.0.0.1", "fuzz"))


class Caller:
    """A signed-in user; the next one once the run has taken the user's account, rights or session."""

    id = 0
    token = ""

    async def refreshed(self) -> str:
        """Return an access token that is valid."""
        if not await self.is_good():
            if SUPERUSER:  # Another one: the last superuser's account can't be changed.
                await add_user(app, next(names), is_superuser=True)
            self.id = (await add_user(app, next(names), is_superuser=SUPERUSER)).id
            self.token = (await open_session(self.id)).access_token
        return self.token

    async def is_good(self) -> bool:
        """Return whether the session is alive, and its user active, with the rights that this run is about."""
        session_id = app.state.tokens.read(ACCESS, self.token).sid if self.token else 0
        owner = select(User.id).join(LoginSession, LoginSession.user_id == User.id).where(LoginSession.id == session_id)
        return bool(await database.fetch(owner.where(User.is_active, User.is_superuser == SUPERUSER), {}))


caller = Caller()


@schemathesis.auth(refresh_interval=None)
class SignedIn:
    """Signs each request in; the check for ignored authentication sends it without, too."""

    def get(self, case: Case[Any], context: AuthContext) -> str:  # noqa: ARG002 - the library's protocol
        """Return the token to send."""
        return run(caller.refreshed())

    def set(self, case: Case[Any], data: str, context: AuthContext) -> None:  # noqa: ARG002 - the same
        """Put the token on a request."""
        case.headers["Authorization"] = f"Bearer {data}"


# The requests ---------------------------------------------------------------------------------------------------------


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:  # noqa: ARG001 - the library's names
    """Replace the document's examples by ids, names and tokens that exist, and call from an address of its own.

    Valid data is accepted only where it fits; and limits that count by address would refuse the rest of the run.
    """
    case.headers["X-Forwarded-For"] = next(addresses)
    if case.headers.get("Idempotency-Key") == EXAMPLE_OF_KEY:
        case.headers["Idempotency-Key"] = next(names)
    # In a sequence of requests, an id is one that an earlier request made.
    if case.meta and case.meta.phase.name != TestPhase.STATEFUL:
        examples = [name for name, value in case.path_parameters.items() if value == 1]
        case.path_parameters.update({name: run(ROWS[name]()) for name in examples})
    if isinstance(case.body, dict):
        # A dict of its own: the library makes other cases of the one that it has.
        case.body = {name: run(real(case.operation.label, value)) for name, value in case.body.items()}


async def new_item() -> int:
    """Add an item of the caller's, and return its id."""
    item, _ = await ItemService(ItemRepository(database)).create(caller.id, ItemCreate("Umbrella"))
    return item.id


async def new_user() -> int:
    """Add a user and return their id, when the caller is a superuser; else return the caller's own."""
    return (await add_user(app, next(names))).id if SUPERUSER else caller.id


async def new_session() -> int:
    """Open one more session of the caller's, and return its id."""
    session_id: int = app.state.tokens.read(ACCESS, (await open_session(caller.id)).access_token).sid
    return session_id


async def new_api_token() -> int:
    """Add an API token of the caller's, and return its id."""
    token = await add_token(app, caller.id, "items:read")
    rows = await database.fetch(select(ApiToken.id).where(ApiToken.digest == digest(token)), {})
    return rows[0][0]


ROWS = {"item_id": new_item, "user_id": new_user, "session_id": new_session, "token_id": new_api_token}


async def real(label: str, value: T) -> T | str:
    """Return a free name or a valid token for the document's example of one; else the value itself."""
    if isinstance(value, str) and value.endswith("..."):
        return await good_token(label)
    if (label, value) == ("POST /token", "alice"):
        return (await new_credentials()).username
    if label in {"POST /users", "PATCH /users/me"}:
        return {"alice": next(names), "alice@example.com": f"{next(names)}@example.org"}.get(str(value)) or value
    return value


async def good_token(label: str) -> str:
    """Return a new user's token, of the kind that the operation takes."""
    user = await new_credentials()
    if label == "POST /email-undo/confirm":
        return await undo_token(app, user.id, f"former-{user.email}")
    state = {
        "POST /email-verification/confirm": (VERIFICATION, address_state(user.email, 0)),
        "POST /password-reset/confirm": (RESET, reset_state(user)),
    }.get(label)
    if state is None:
        return str((await open_session(user.id)).refresh_token)
    token: str = app.state.tokens.issue(state[0], user.id, timedelta(minutes=10), state=state[1])
    return token


async def new_credentials() -> StoredCredentials:
    """Add a user, and return what signing in needs of the row."""
    credentials = await CredentialRepository(database).by_id((await add_user(app, next(names))).id)
    assert credentials is not None
    return credentials


# The answers ----------------------------------------------------------------------------------------------------------


@schemathesis.hook
def after_call(context: HookContext, case: Case[Any], response: Response) -> None:  # noqa: ARG001 - the library's names
    """Count the answer, unless it is to a method that isn't the operation's: OPTIONS is answered everywhere."""
    if response.request.method == case.operation.method.upper():
        answers[case.operation.label][response.status_code] += 1


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:  # noqa: ARG001 - the same
    """Return whether a failure is one: data that keeps the schema may be refused for the reasons above."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    problem = response.json()
    errors = {(error["pointer"], error["detail"]) for error in problem.get("errors", [])}
    if is_set_aside(case.body):
        errors.discard(("/email", "must be an e-mail address"))
    return problem["detail"] not in STATE and (not problem.get("errors") or not errors <= BEYOND_SCHEMAS)


def is_set_aside(body: object) -> bool:
    """Return whether a body's address is of a domain that RFC 6761 sets aside, `.test` say: the format allows it."""
    domain = str(body.get("email")).rpartition("@")[2] if isinstance(body, dict) else ""
    return domain.rpartition(".")[2].lower() in SPECIAL_USE_DOMAIN_NAMES
