"""Where the API key comes from, and that it is seen nowhere."""

from __future__ import annotations

import json
import os
import pickle

import pytest

from local_agent.errors import ConfigError
from local_agent.settings import Secret, SourceKind
from local_agent.settings.show import as_json, as_lines
from unit.settings.conftest import Host

AUTH = '["localhost-4200"]\napi_key = "from-auth"\ntenant_id = "11111111-1111-4111-8111-111111111111"\n'

# the strongest first; each test takes one more away. Each has files, variables and flags that say it.
PLACES = (
    "flag", "flag file", "credential", "variable", "prefect variable", "variable file", "toml file", "toml",
    "prefect file", "auth", "nothing",
)  # fmt: skip
FILES = {
    "flag file": ("flag-key", "from-flag-file\n"),
    "credential": ("api-key", "from-credential"),
    "variable file": ("variable-key", "from-variable-file\n"),
    "toml file": ("toml-key", "from-toml-file\n"),
    "prefect file": ("~/.prefect/config.toml", '[cloud]\napi_key = "from-prefect-file"'),
    "auth": ("~/.prefect/auth.toml", AUTH),
}
VARIABLES = {
    "credential": ("CREDENTIALS_DIRECTORY", "{etc}"),
    "variable": ("LOCAL_AGENT_API_KEY", "from-variable"),
    "prefect variable": ("PREFECT__CLOUD__API_KEY", "from-prefect-variable"),
    "variable file": ("LOCAL_AGENT_API_KEY_FILE", "{etc}/variable-key"),
}
FLAGS = {"flag": ("api_key", "from-flag"), "flag file": ("api_key_file", "{etc}/flag-key")}
TOML = {"toml file": 'api_key_file = "{etc}/toml-key"\n', "toml": 'api_key = "from-toml"\n'}


@pytest.mark.parametrize("strongest", range(len(PLACES)), ids=PLACES)
def test_the_safest_place_wins(host: Host, strongest: int) -> None:
    said = PLACES[strongest:]
    etc = host.config_dir
    for name, text in (FILES[place] for place in said if place in FILES):
        host.write(name, text)
    host.write("agent.toml", "".join(TOML.get(place, "") for place in said).format(etc=etc))
    host.environ.update((name, text.format(etc=etc)) for name, text in (VARIABLES[p] for p in said if p in VARIABLES))
    flags = {key: text.format(etc=etc) for key, text in (FLAGS[place] for place in said if place in FLAGS)}
    key = host.load(flags).api_key
    expected = "from-" + said[0].replace(" ", "-")
    assert (key.reveal() if key else "from-nothing") == expected


def test_the_login_is_that_of_the_api(host: Host) -> None:
    host.write("~/.prefect/auth.toml", AUTH)
    settings = host.load()
    assert settings.tenant_id == "11111111-1111-4111-8111-111111111111"
    assert settings.sources["tenant_id"].kind is SourceKind.FILE
    other = host.load({"api": "http://127.0.0.1:4200"})
    assert (other.api_key, other.tenant_id) == (None, None)


def test_the_login_lies_in_prefects_home(host: Host) -> None:
    host.write("~/elsewhere/auth.toml", AUTH)
    key = host.load(PREFECT__HOME_DIR="$HOME/elsewhere").api_key
    assert key == Secret("from-auth")


def test_a_secret_shows_nothing(host: Host) -> None:
    settings = host.load({"env": ("MY_TOKEN=hidden-token", "A=1")}, LOCAL_AGENT_API_KEY="hidden-key")
    shown = [repr(settings), str(settings.api_key), f"{settings.api_key}", repr(settings.sources)]
    shown += [json.dumps(as_json(settings)), *as_lines(settings)]
    assert not any("hidden" in text for text in shown)
    assert "********" in shown[1]
    with pytest.raises(TypeError):
        pickle.dumps(settings.api_key)


def test_a_password_in_the_url_is_masked(host: Host) -> None:
    settings = host.load({"api": "https://user:hidden@api.example.com"})
    assert not any("hidden" in line for line in (json.dumps(as_json(settings)), *as_lines(settings)))


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hidden@api.example.com",
        "https://hidden@api.example.com/graphql",
        "https://user:hidden%40x@[::1]:4200",
        "https://user:hidden/and@api.example.com",
        "https://user:hidden@",
        "ftp://user:hidden@api.example.com",
        "https://user:hidden@api.example.com:99999999",
        "https://user:hidden@[::1",
    ],
)
def test_no_url_is_shown_with_its_password(host: Host, url: str) -> None:
    host.write("agent.toml", f'api = "{url}"')
    try:
        settings = host.load()
    except ConfigError as error:
        shown = [error.message, *error.problems]
    else:
        shown = [repr(settings), json.dumps(as_json(settings)), *as_lines(settings), *settings.warnings]
    assert not any("hidden" in text for text in shown)


def test_a_password_in_the_url_that_others_can_see_is_warned_about(host: Host) -> None:
    url = "https://user:hidden@api.example.com"
    assert host.load(LOCAL_AGENT_API=url).warnings == ()
    assert any("list of processes" in warning for warning in host.load({"api": url}).warnings)
    assert any(
        "is not sent" in one or "is not:" in one
        for one in host.load(LOCAL_AGENT_API=url, LOCAL_AGENT_API_KEY="k").warnings
    )
    assert any("unencrypted" in one for one in host.load(LOCAL_AGENT_API=url.replace("https", "http")).warnings)
    path = host.write("agent.toml", f'api = "{url}"', mode=0o644)
    assert any(f"{path}: holds the API's password" in warning for warning in host.load().warnings)


def test_errors_about_a_key_do_not_show_it(host: Host) -> None:
    host.write("agent.toml", "api_key = 12345678")
    assert not any("12345678" in problem for problem in host.problems())
    host.write("agent.toml", "")
    assert not any("hidden" in problem for problem in host.problems(LOCAL_AGENT_API_KEY="hidden key"))


def test_a_key_on_the_command_line_is_warned_about(host: Host) -> None:
    (warning,) = host.load({"api_key": "abc"}).warnings
    assert "list of processes" in warning


@pytest.mark.parametrize(("mode", "warnings"), [(0o644, 1), (0o640, 0)])
def test_a_key_that_everybody_can_read_is_warned_about(host: Host, mode: int, warnings: int) -> None:
    host.write("agent.toml", 'api_key = "abc"', mode=mode)
    assert len(host.load().warnings) == warnings
    host.write("agent.toml", "")
    host.write("~/.prefect/auth.toml", AUTH, mode=mode)
    assert len(host.load().warnings) == warnings
    path = host.write("key", "abc", mode=mode)
    assert len(host.load({"api_key_file": str(path)}).warnings) == warnings


def test_a_key_over_plain_http_to_another_machine_is_warned_about(host: Host) -> None:
    (warning,) = host.load({"api": "http://api.example.com"}, LOCAL_AGENT_API_KEY="abc").warnings
    assert "unencrypted" in warning
    assert host.load({"api": "https://api.example.com"}, LOCAL_AGENT_API_KEY="abc").warnings == ()
    assert host.load({"api": "http://127.0.0.1:4200"}, LOCAL_AGENT_API_KEY="abc").warnings == ()


def test_key_files_that_hold_no_key(host: Host) -> None:
    (problem,) = host.problems({"api_key_file": str(host.config_dir / "none")})
    assert "--api-key-file" in problem
    assert "No such file" in problem
    path = host.write("key", "\n")
    assert "empty" in host.problems({"api_key_file": str(path)})[0]
    path.write_bytes(b"\xff\xfe")
    assert "not a text" in host.problems({"api_key_file": str(path)})[0]
    path.write_text("x" * 100_000)
    assert "has more than 65536 bytes" in host.problems({"api_key_file": str(path)})[0]
    assert "neither a file nor a pipe" in host.problems({"api_key_file": "/dev/zero"})[0]


def test_a_key_may_come_through_a_pipe(host: Host) -> None:
    """As `--api-key-file <(pass show api)` has it; one that nobody writes to keeps nobody waiting."""
    reading, writing = os.pipe()
    try:
        os.write(writing, b"abc\n")
        os.close(writing)
        key = host.load({"api_key_file": f"/proc/self/fd/{reading}"}).api_key
    finally:
        os.close(reading)
    assert key is not None
    assert key.reveal() == "abc"
    os.mkfifo(host.config_dir / "pipe")
    assert "nothing is written to it" in host.problems({"api_key_file": str(host.config_dir / "pipe")})[0]
