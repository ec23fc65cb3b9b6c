"""Failures of a request: whether to repeat it, skip the grid, or end the run."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ReadTimeoutError

from gridctl.caption.clean import shorten
from gridctl.errors import GridctlError


class PassingError(Exception):
    """A failure that may pass; `after_seconds` is the pause that the server asked for.

    `no_listener` means that a port of this machine refused the connection.
    """

    def __init__(
        self,
        reason: str,
        *,
        after_seconds: float | None = None,
        unreachable: bool = False,
        no_listener: bool = False,
    ) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds
        self.unreachable = unreachable
        self.no_listener = no_listener


class RequestError(GridctlError):
    """A request that fails however often it is sent; other grids may do better."""


class FinalError(GridctlError):
    """A failure that every grid would meet: the run ends."""


def without_secrets(url: str) -> str:
    """An address for a message: without user, password, query and fragment."""
    return re.sub(r"//[^/?#]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0])


def redacted(text: str, key: str | None) -> str:
    """`text` without the server's key."""
    return text.replace(key, "***") if key else text


def connection_failure(error: Exception, url: str) -> PassingError | FinalError:
    """The error for a request to `url` that got no response."""
    if isinstance(error, requests.exceptions.ProxyError | requests.exceptions.InvalidProxyURL):
        return _proxy_failure(error, url)
    cause = error.args[0] if error.args else None
    if isinstance(error, requests.Timeout) or isinstance(cause, ReadTimeoutError):
        unreachable = isinstance(error, requests.ConnectTimeout)
        return PassingError("it does not answer in time", unreachable=unreachable)
    if isinstance(error, requests.exceptions.SSLError):
        return _tls_failure(str(error), url)
    if "SOCKS" in str(error) or "proxy" in str(error).lower():
        return _proxy_failure(error, url)
    cause = getattr(cause, "reason", None)
    root = getattr(cause, "__cause__", None)
    if isinstance(root, socket.gaierror) and root.errno != socket.EAI_AGAIN:
        host = urlsplit(url).hostname
        return _unreachable(url, f"no host has the name {host}", "check --server.")
    if isinstance(cause, NewConnectionError | ConnectTimeoutError):
        refused = isinstance(root, ConnectionRefusedError)
        return PassingError(
            "it refuses the connection" if refused else "it cannot be reached",
            unreachable=True,
            no_listener=refused and _is_this_machine(urlsplit(url).hostname or ""),
        )
    if "BadStatusLine('\\x15\\x03" in str(error):  # a TLS alert
        return _unreachable(url, "it speaks https, not http", "check --server.")
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return PassingError("it closes the connection")
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return PassingError("its answer is garbled")
    reason = shorten(str(error), 160).rstrip(".")  # a wrong address, header or certificate file
    return _unreachable(url, reason, "correct that, then run it again.")


def _is_this_machine(host: str) -> bool:
    with suppress(ValueError):
        address = ip_address(host)
        return address.is_loopback or address.is_unspecified
    return host == "localhost" or host.endswith(".localhost")


def _proxy_failure(error: Exception, url: str) -> PassingError | FinalError:
    text = str(error)
    if re.search(r"Tunnel connection failed: 50[234]", text):
        return PassingError("the proxy does not reach it")
    variable, proxy = _proxy_of(url)
    if "Missing dependencies for SOCKS" in text:
        reason = "PySocks is missing"
        remedy = f"run pip install 'requests[socks]', or unset ${variable}."
    else:
        tunnel = re.search(r"Tunnel connection failed: (\d+ [\w ]+)", text)
        reason = f"it answers {tunnel[1]}" if tunnel else _connection_reason(text)
        host = urlsplit(url).hostname
        remedy = f"correct ${variable}, or add {host} to $NO_PROXY."
    return _unreachable(f"{url} through the proxy {proxy}", reason, remedy)


def _connection_reason(text: str) -> str:
    known = ("Connection refused", "timed out", "Name or service not known", "malformed")
    found = next((words for words in known if words in text), None)
    return {"malformed": "its address is malformed", None: "it does not answer"}.get(
        found, str(found).lower()
    )


def _proxy_of(url: str) -> tuple[str, str]:
    """(environment variable, address without password) of the proxy for `url`."""
    scheme = urlsplit(url).scheme
    for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        if value := os.environ.get(name):
            return name, re.sub(r"//[^/@]*@", "//", value)
    return "HTTPS_PROXY", "of this system"


def _tls_failure(text: str, url: str) -> PassingError | FinalError:
    if "EOF" in text:
        return PassingError("it closes the connection")
    if "CERTIFICATE_VERIFY_FAILED" in text:
        why = re.search(r"certificate verify failed: ([^(\[]+)", text)
        reason = "its certificate is not trusted here"
        return _unreachable(
            url,
            f"{reason}: {why[1].strip()}" if why else reason,
            "check --server, or name the certificate's authority in $REQUESTS_CA_BUNDLE.",
        )
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        return _unreachable(url, "it speaks http, not https", "check --server.")
    found = re.search(r"\[SSL: (\w+)\]", text)
    reason = f"TLS fails with {found[1]}" if found else "TLS fails"
    return _unreachable(url, reason, "check --server.")


def _unreachable(what: str, reason: str, remedy: str) -> FinalError:
    return FinalError(f"{what} cannot be reached ({reason}); {remedy}")
