"""The feature of pages for people, which stands on all others: it has pages for those that the application has."""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec

from litestar import Router
from litestar.config.app import AppConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.template import TemplateConfig
from litestar.types import ControllerRouterHandler, OnAppInitHandler

from app.auth.feature import create_browser_sessions, create_two_step_sign_in
from app.http.feature import Feature, Parts
from app.pages import account, entrance, front, mailed
from app.pages.answers import respond_in_browser
from app.pages.looks import template_engine
from app.pages.visit import FeaturePages, Site, admit, visit_of

MAX_FORM_BYTES = 16 * 1024
PAGES: list[ControllerRouterHandler] = [
    front.front,
    entrance.sign_up_page,
    entrance.sign_up,
    entrance.sign_in_page,
    entrance.sign_in,
    entrance.code_page,
    entrance.sign_in_by_code,
    entrance.sign_out,
    entrance.confirm_page,
    entrance.confirm,
    mailed.verify_email_page,
    mailed.verify_email,
    mailed.undo_email_page,
    mailed.undo_email,
    mailed.forgot_password_page,
    mailed.forgot_password,
    mailed.reset_password_page,
    mailed.reset_password,
    account.overview,
    account.profile_page,
    account.change_profile,
    account.email_page,
    account.change_email,
    account.password_page,
    account.change_password,
    account.sessions_page,
    account.end_sessions,
    account.delete_page,
    account.delete_account,
]


def feature(parts: Parts) -> Feature:
    """Return the pages; with ACCOUNT_PAGES=false, only the way to the password's page elsewhere, if there is one."""
    to_password = [front.change_password(parts.account_url)] if parts.account_url else []
    if not parts.settings.account_pages:
        return Feature(routes=to_password)
    others = pages_of_features(parts)
    pages = Router(
        "/",
        route_handlers=[*PAGES, *(route for other in others for route in other.routes)],
        before_request=admit,
        dependencies={"visit": Provide(visit_of, sync_to_thread=False)},
        include_in_schema=False,
        request_max_body_size=MAX_FORM_BYTES,
    )
    assets = Router("/", route_handlers=[front.read_asset], include_in_schema=False)
    return Feature(
        routes=[pages, assets, *to_password],
        links={"account": "Account"},
        on_app_init=[prepare(create_site(parts, others))],
    )


def create_site(parts: Parts, others: Sequence[FeaturePages]) -> Site:
    """Return what all pages share, with what those of features bring to the overview and to the sign-in."""
    rows = [row for other in others for row in other.rows]
    has_passkey = next((other.has_passkey for other in others if other.has_passkey), never)
    return Site(parts, create_browser_sessions(parts), create_two_step_sign_in(parts), has_passkey, rows)


async def never(_user_id: int) -> bool:
    """Return False: without the feature, nobody has a passkey."""
    return False


def pages_of_features(parts: Parts) -> list[FeaturePages]:
    """Return the pages that belong to one feature each, of those that the application has."""
    names = [f"app.pages.{name}" for name in sorted(parts.features)]
    factories: list[Callable[[Parts], FeaturePages]] = [import_module(name).pages for name in names if find_spec(name)]
    return [pages(parts) for pages in factories]


def prepare(site: Site) -> OnAppInitHandler:
    """Return the handler that gives an application the templates, and pages for errors."""
    engine = template_engine(site.settings)

    def on_app_init(config: AppConfig) -> AppConfig:
        config.state["site"] = site
        config.template_config = TemplateConfig(instance=engine)
        config.exception_handlers = {Exception: respond_in_browser, HTTPException: respond_in_browser}
        return config

    return on_app_init
