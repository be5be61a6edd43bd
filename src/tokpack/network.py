"""Whether a host answers, known within a second: the libraries that speak to it retry for much longer."""

from __future__ import annotations

import os
import queue
import socket
import threading
import urllib.request
from urllib.parse import urlsplit

__all__ = ["reachable", "spare_metadata_service"]

#: Enough for the name, the connection and a slow line; who waits longer is told that there is no network.
_TIMEOUT_S = 0.7
_METADATA_TIMEOUT_S = 0.2
_METADATA_SERVICE = ("169.254.169.254", 80)


def reachable(url: str, *, timeout_s: float = _TIMEOUT_S) -> bool:
    """Tell whether the host of ``url``, or the proxy that stands before it, takes a connection.

    Sends nothing. Looking up a name has no time limit of its own, so all of it happens in a thread.
    """
    address = urlsplit(url)
    proxies = urllib.request.getproxies()
    if (proxy := proxies.get(address.scheme)) and not urllib.request.proxy_bypass(address.hostname or ""):
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    place = (address.hostname or "", address.port or (443 if address.scheme == "https" else 80))
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
    threading.Thread(target=_connect, args=(place, timeout_s, answers), daemon=True).start()
    try:
        return answers.get(timeout=timeout_s)
    except queue.Empty:
        return False


def _connect(place: tuple[str, int], timeout_s: float, answers: queue.SimpleQueue[bool]) -> None:
    try:
        with socket.create_connection(place, timeout=timeout_s):
            answers.put(True)
    except (OSError, UnicodeError):
        answers.put(False)


def spare_metadata_service() -> None:
    """Keep AWS's library from waiting for a machine's own credentials where the machine is not AWS's.

    It asks a service at a link-local address, which answers at once or not at all. Anything said in the
    environment about credentials or that service stands.
    """
    said = ("AWS_ACCESS_KEY_ID", "AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT")
    if any(name in os.environ for name in said):
        return
    try:
        with socket.create_connection(_METADATA_SERVICE, timeout=_METADATA_TIMEOUT_S):
            return
    except OSError:
        os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
