"""The agent's control socket."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from local_agent.errors import ConfigError, LocalAgentError, StateError, UnavailableError
from local_agent.net import control


async def _poke() -> str:
    return "polling now"


async def _break() -> str:
    raise RuntimeError("a fault of ours")


async def _reload() -> str:
    raise ConfigError("2 settings are wrong", hint="see local-agent config", problems=("one", "two"))


_COMMANDS: Mapping[str, Callable[[], Awaitable[str]]] = {"poke": _poke, "reload": _reload, "break": _break}


def _served(folder: Path, **more: Any) -> AbstractAsyncContextManager[None]:  # noqa: ANN401 - as `served` takes it
    return control.served(folder, _COMMANDS, **{"on_fault": pytest.fail, **more})


async def _ask(folder: Path, command: str) -> str:
    return await asyncio.to_thread(control.ask, folder, command)


async def test_a_command_is_carried_out_and_answered(tmp_path: Path) -> None:
    async with _served(tmp_path):
        assert await _ask(tmp_path, "poke") == "polling now"
        assert (tmp_path / "control").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "control").exists()


async def test_what_cannot_be_done_is_raised_in_the_agents_words(tmp_path: Path) -> None:
    async with _served(tmp_path):
        with pytest.raises(LocalAgentError) as caught:
            await _ask(tmp_path, "reload")
    assert caught.value.message == "2 settings are wrong\n  one\n  two"
    assert caught.value.hint == "see local-agent config"
    assert caught.value.exit_code == 78, "as documented for a wrong setting"


async def test_an_unknown_command_is_answered_with_those_that_there_are(tmp_path: Path) -> None:
    async with _served(tmp_path):
        with pytest.raises(LocalAgentError, match="poke, reload, break"):
            await _ask(tmp_path, "dance")


async def test_a_path_may_be_longer_than_a_sockets_may(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120) / ("y" * 120)
    folder.mkdir(parents=True)
    async with _served(folder):
        assert await _ask(folder, "poke") == "polling now"


async def test_a_socket_that_an_earlier_life_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "control"))
    async with _served(tmp_path):
        assert await _ask(tmp_path, "poke") == "polling now"


@pytest.mark.parametrize("sent", [b"\n", b"nonsense\n", b"[]\n", b'{"do": 5}\n', b"x" * 100_000 + b"\n", b""])
async def test_nonsense_harms_nobody(tmp_path: Path, sent: bytes) -> None:
    async with _served(tmp_path):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control"))
        try:
            writer.write(sent)
            writer.write_eof()
            answer = await reader.read()
        except ConnectionError:
            answer = b""
        writer.close()
        assert b"polling" not in answer
        assert await _ask(tmp_path, "poke") == "polling now"


@pytest.mark.parametrize("left", [False, True], ids=["nothing there", "left by an earlier process"])
async def test_no_agent_answers(tmp_path: Path, *, left: bool) -> None:
    if left:
        with socket.socket(socket.AF_UNIX) as earlier:
            earlier.bind(str(tmp_path / "control"))
    with pytest.raises(UnavailableError, match=f"no agent answers at {tmp_path}") as caught:
        await _ask(tmp_path, "poke")
    assert caught.value.exit_code == 69
    assert caught.value.hint


async def test_a_link_to_another_agents_socket_is_not_followed(tmp_path: Path) -> None:
    """Root would have that one do what the folder's user chose."""
    theirs, anothers = tmp_path / "theirs", tmp_path / "anothers"
    for folder in (theirs, anothers):
        folder.mkdir()
    async with _served(anothers):
        (theirs / "control").symlink_to(anothers / "control")
        with pytest.raises(UnavailableError, match=f"no agent answers at {theirs}"):
            await _ask(theirs, "poke")
        assert await _ask(anothers, "poke") == "polling now"


async def test_a_socket_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    with pytest.raises(StateError, match="cannot make the control socket"):
        async with _served(tmp_path):
            pass


async def test_a_fault_of_ours_is_answered_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    async with _served(tmp_path, on_fault=said.append):
        with pytest.raises(LocalAgentError, match="a fault of local-agent itself") as caught:
            await _ask(tmp_path, "break")
    assert caught.value.exit_code == 70
    assert "RuntimeError: a fault of ours" in said[0]


async def test_who_says_nothing_is_hung_up_on(tmp_path: Path) -> None:
    async with _served(tmp_path, silence_seconds=0.2):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control")
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()


async def test_who_takes_nothing_is_hung_up_on(tmp_path: Path) -> None:
    async def long_story() -> str:
        return "x" * (4 << 20)

    async with control.served(tmp_path, {"tell": long_story}, on_fault=pytest.fail, silence_seconds=0.2):
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(tmp_path / "control"))
            deaf.sendall(b'{"do": "tell"}\n')
            await asyncio.to_thread(_wait_for_the_end, deaf)


def _wait_for_the_end(connection: socket.socket) -> None:
    poller = select.poll()
    poller.register(connection, 0)  # the end is told whatever is asked for
    assert poller.poll(20_000), "nobody hung up"


async def test_many_silent_clients_hold_up_nobody_for_long(tmp_path: Path) -> None:
    async with _served(tmp_path, silence_seconds=0.3):
        silent = [await asyncio.open_unix_connection(tmp_path / "control") for _ in range(40)]
        async with asyncio.timeout(30):
            for reader, writer in silent:
                assert await reader.read() == b""
                writer.close()
        assert await _ask(tmp_path, "poke") == "polling now"
