"""The feature of accounts: its routes, services, jobs and commands."""

from litestar.openapi.spec import Tag

from app.auth.feature import create_credential_service
from app.auth.repository import SessionRepository
from app.http.feature import Feature, Parts, provide
from app.security.limits import registrations_per_hour
from app.users.commands import create_superuser
from app.users.controller import UserController, VerificationController
from app.users.jobs import AccountMails
from app.users.repository import UserRepository
from app.users.service import UserService, VerificationService


def feature(parts: Parts) -> Feature:
    """Return registration, profiles, superusers' rights, and the verification of e-mail addresses."""
    users = create_user_service(parts)
    return Feature(
        routes=[UserController, VerificationController],
        tags=[Tag("Users", "Registration and accounts.")],
        dependencies=provide(
            users=users, verification=VerificationService(users.users, parts.tokens, parts.limits, parts.mails)
        ),
        jobs=AccountMails(users.users, parts.mail, parts.tokens).handlers,
        commands=[create_superuser(users)],
    )


def create_user_service(parts: Parts) -> UserService:
    """Return the service that opens, changes and deletes accounts."""
    settings = parts.settings
    is_open = settings.registration == "open"
    return UserService(
        UserRepository(parts.database),
        SessionRepository(parts.database),
        create_credential_service(parts),
        parts.mails,
        registrations=registrations_per_hour(settings.registrations_per_hour) if is_open else None,
    )
