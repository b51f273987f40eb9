"""The feature of accounts: its routes, services, jobs and commands."""

from litestar.openapi.spec import Tag

from app.auth.feature import create_access, create_credential_service
from app.http.feature import Feature, Parts, provide, scopes_for
from app.security.limits import registrations_per_hour
from app.users.commands import create_superuser
from app.users.controller import UndoController, UserController, VerificationController
from app.users.jobs import AccountMails
from app.users.repository import FormerAddressRepository, UserRepository
from app.users.service import UserService, VerificationService
from app.users.undo import UndoService

# What each of this feature's security events tells.
EVENTS = {
    "registration": "The account was created: `is_superuser` by an operator, who is no `actor_id`",
    "address_changed": "The e-mail address was changed",
    "address_verified": "The e-mail address was confirmed by a mailed token",
    "address_restored": "A change of the e-mail address was undone by a mailed token, which ended all sessions",
    "address_undo_failed": "A mailed token to undo a change of an e-mail address was refused",
    "rights_changed": "The account was given other rights, by a superuser: `is_active`, `is_superuser`",
    "account_deleted": "The account was deleted, by its owner or a superuser",
}


def feature(parts: Parts) -> Feature:
    """Return registration, profiles, superusers' rights, and the verification of e-mail addresses."""
    users = create_user_service(parts)
    former = FormerAddressRepository(parts.database)
    undo = UndoService(users.users, former, users.access, parts.passwords, parts.tokens, parts.mails, parts.events)
    return Feature(
        routes=[UserController, VerificationController, UndoController],
        tags=[Tag("Users", "Registration and accounts.")],
        scopes={
            **scopes_for("account", read="Read your account", write="Change your username"),
            **scopes_for(
                "users", read="Read all accounts, as a superuser", write="Change all accounts, as a superuser"
            ),
        },
        events=EVENTS,
        dependencies=provide(
            users=users,
            verification=VerificationService(
                users.users, former, parts.tokens, parts.limits, parts.mails, parts.events
            ),
            undo=undo,
        ),
        jobs=AccountMails(users.users, former, parts.mail, parts.tokens).handlers,
        chores=[former.purge],
        commands=[create_superuser(users)],
    )


def create_user_service(parts: Parts) -> UserService:
    """Return the service that opens, changes and deletes accounts."""
    settings = parts.settings
    is_open = settings.registration == "open"
    return UserService(
        UserRepository(parts.database),
        FormerAddressRepository(parts.database),
        create_access(parts),
        create_credential_service(parts),
        parts.mails,
        parts.events,
        registrations=registrations_per_hour(settings.registrations_per_hour) if is_open else None,
        undo_days=settings.address_undo_days,
    )
