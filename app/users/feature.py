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


def feature(parts: Parts) -> Feature:
    """Return registration, profiles, superusers' rights, and the verification of e-mail addresses."""
    users = create_user_service(parts)
    former = FormerAddressRepository(parts.database)
    undo = UndoService(users.users, former, users.access, parts.passwords, parts.tokens, parts.mails)
    return Feature(
        routes=[UserController, VerificationController, UndoController],
        tags=[Tag("Users", "Registration and accounts.")],
        scopes={
            **scopes_for("account", read="Read your account", write="Change your username"),
            **scopes_for(
                "users", read="Read all accounts, as a superuser", write="Change all accounts, as a superuser"
            ),
        },
        dependencies=provide(
            users=users,
            verification=VerificationService(users.users, former, parts.tokens, parts.limits, parts.mails),
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
        registrations=registrations_per_hour(settings.registrations_per_hour) if is_open else None,
        undo_days=settings.address_undo_days,
    )
