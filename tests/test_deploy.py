"""The files in `deploy/`, the compose file and the page for operators agree with the code."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.__main__ import server
from app.settings import Settings
from deploy.probe import probe
from tests.factories import SECRET
from tests.programs import ROOT, service

FIELDS = {field.encode_name: field for field in msgspec.structs.fields(Settings)}


@pytest.fixture
def compose() -> dict[str, Any]:
    """The compose file, read as YAML."""
    read: dict[str, Any] = msgspec.yaml.decode((ROOT / "compose.yaml").read_text())
    return read


@pytest.fixture
def seconds_to_stop(tmp_path: Path) -> int:
    """The time that the server gives a worker's requests before it kills the worker."""
    timeout = server(Settings(secret_key=SECRET), "127.0.0.1", tmp_path / "drain", reload=False).workers_kill_timeout
    assert timeout is not None
    return timeout


def test_two_instances_get_the_same_settings_which_exist(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["app1"] == services["app2"]
    assert services["app1"]["environment"].keys() <= FIELDS.keys()


def test_docker_and_systemd_do_not_kill_the_service_before_it_gives_up_its_requests(
    compose: dict[str, Any], seconds_to_stop: int
) -> None:
    assert seconds_to_stop == 30
    assert int(compose["services"]["app1"]["stop_grace_period"].removesuffix("s")) > seconds_to_stop
    unit = (ROOT / "deploy" / "backend-api.service").read_text()
    assert int(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0]) > seconds_to_stop


def test_nginx_is_the_same_in_containers_and_without() -> None:
    """Only the names of the instances differ; tests run nginx with one of the two files."""

    def lines(path: str) -> list[str]:
        text = re.sub(r"(app|127\.0\.0\.1:800)\d(:8000)?", "instance", (ROOT / path).read_text())
        return [line for line in text.splitlines() if not line.lstrip().startswith("#")]

    assert lines("deploy/compose/nginx.conf") == lines("deploy/nginx.conf")


def test_the_page_for_operators_has_every_setting_and_its_default() -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    found = re.findall(r"^\| `([A-Z_]+)` \|(.*?)\| ", page, re.MULTILINE)
    rows = {name: default.strip() for name, default in found}
    assert rows.keys() == FIELDS.keys()
    for name, field in FIELDS.items():
        plain = isinstance(field.default, (str, int)) and field.default != ""
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        assert not plain or rows[name] == f"`{default}`"


@pytest.mark.slow
def test_the_health_check_succeeds_only_where_a_service_answers(
    tmp_path: Path, free_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", str(free_tcp_port))
    assert probe("/health/ready") == 1
    with service(tmp_path, free_tcp_port, SECRET_KEY=SECRET):
        assert probe("/health/ready") == 0
        assert probe("/nowhere") == 1
