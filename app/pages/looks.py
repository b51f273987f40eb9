"""The looks of the pages: templates, which an operator can replace one by one, the stylesheet, and scripts."""

from datetime import datetime
from hashlib import sha256
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined, TemplateError
from litestar.plugins.jinja import JinjaTemplateEngine

from app.http.docs.pages import OWN_ASSETS
from app.settings import Settings
from app.settings.error import SettingsError

FOLDER = Path(__file__).parent
TEMPLATES = FOLDER / "templates"
SCRIPTS = ("passkeys.js", "token.js")
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript"}
COLOURS = """\
:root {{
  --accent: {light};
  --on-accent: {on_light};
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --accent: {dark};
    --on-accent: {on_dark};
  }}
}}
"""
# Browsers also name those that they resemble, so the first sign that is there counts.
BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "CriOS/": "Chrome",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
}
SYSTEMS = {
    "Windows": "Windows",
    "Android": "Android",
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Mac OS X": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}
BLACK, WHITE = "#111111", "#ffffff"
MIDDLE_LUMINANCE = 0.179
"""Of a colour on which black and white can be read equally well (WCAG 2.2, relative luminance)."""


def template_engine(settings: Settings) -> JinjaTemplateEngine:
    """Return the engine. Raise SettingsError for a template of TEMPLATES_DIR that can't be read.

    A template that replaces one can extend it: it is in a folder `original`.
    """
    own = FileSystemLoader(TEMPLATES)
    loaders = [own, PrefixLoader({"original": own})]
    if settings.templates_dir:
        loaders.insert(0, FileSystemLoader(settings.templates_dir))
    # Every template is HTML, whatever its name ends in.
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"day": day, "moment": moment, "device": device}
    for path in Path(settings.templates_dir).glob("*.html") if settings.templates_dir else ():
        try:
            environment.parse(path.read_text(encoding="utf-8"))
        except (TemplateError, OSError, UnicodeDecodeError) as error:
            line = getattr(error, "lineno", None)
            raise SettingsError(f"TEMPLATES_DIR: {path.name}{f', line {line}' if line else ''}: {error}") from None
    return JinjaTemplateEngine.from_environment(environment)


def day(time: datetime) -> str:
    """Return a day in words."""
    return f"{time.day} {time:%B %Y}"


def moment(time: datetime) -> str:
    """Return a minute in words, in UTC: without a script, no page knows where its reader is."""
    return f"{day(time)}, {time:%H:%M} UTC"


def device(user_agent: str) -> str:
    """Return a browser and its system by their names, or what else the client says of itself."""
    browser = next((name for sign, name in BROWSERS.items() if sign in user_agent), "")
    system = next((name for sign, name in SYSTEMS.items() if sign in user_agent), "")
    return " on ".join(filter(None, [browser, system])) if browser else user_agent or "Unknown device"


class Assets:
    """The stylesheet and the scripts, under a name of their content, so that browsers may keep them for ever."""

    def __init__(self, settings: Settings) -> None:
        colours = COLOURS.format(
            light=settings.pages_colour,
            on_light=on(settings.pages_colour),
            dark=settings.pages_colour_dark,
            on_dark=on(settings.pages_colour_dark),
        )
        styles = [colours, (OWN_ASSETS / "site.css").read_text(), (FOLDER / "assets" / "pages.css").read_text()]
        self.contents = {"pages.css": "".join(styles).encode()}
        self.contents |= {name: (FOLDER / "assets" / name).read_bytes() for name in SCRIPTS}
        self.version = sha256(b"".join(self.contents.values())).hexdigest()[:16]


def on(colour: str) -> str:
    """Return black or white, whichever can be read better on a colour."""
    return BLACK if luminance(colour) > MIDDLE_LUMINANCE else WHITE


def luminance(colour: str) -> float:
    """Return the relative luminance of `#rrggbb` (WCAG 2.2)."""
    red, green, blue = (linear(int(colour[start : start + 2], 16) / 255) for start in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def linear(channel: float) -> float:
    """Return the light of a channel of sRGB."""
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)  # noqa: PLR2004 - sRGB's
