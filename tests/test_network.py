"""Whether a host answers: told in time, through proxies, and not asked where the user has said enough."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from tokpack.network import reachable, spare_metadata_service


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port that takes connections, in an environment that knows of no proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_host_that_answers_and_one_that_does_not(port: int) -> None:
    assert reachable(f"https://127.0.0.1:{port}/path")
    assert not reachable(f"http://127.0.0.1:{closed_port()}")
    assert not reachable("https://no such host")
    assert not reachable("https://" + "a" * 70 + ".org")


def test_a_proxy_stands_for_the_host(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    assert reachable("https://host.invalid")
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{closed_port()}")
    assert not reachable("https://host.invalid")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert reachable(f"https://127.0.0.1:{port}")


def test_a_name_that_is_looked_up_for_ever_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()

    def wait(place: tuple[str, int], timeout: float) -> None:
        done.wait()
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", wait)
    assert not reachable("http://slow.example", timeout_s=0.05)
    done.set()


def test_the_metadata_service_is_left_out_where_it_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(place: tuple[str, int], timeout: float) -> None:
        asked.append(place)
        raise TimeoutError

    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(socket, "create_connection", refuse)
    # Set first, so that whatever the function does is undone.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    spare_metadata_service()
    assert (asked, os.environ["AWS_EC2_METADATA_DISABLED"]) == ([], "false")
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    spare_metadata_service()
    assert asked == []
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    spare_metadata_service()
    assert asked == [("169.254.169.254", 80)]
    assert os.environ["AWS_EC2_METADATA_DISABLED"] == "true"
