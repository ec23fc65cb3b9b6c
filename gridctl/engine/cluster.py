"""A Ray cluster: how to connect to one, and what a worker needs to know of the caller."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gridctl import __version__
from gridctl.errors import GridctlError, UsageError
from gridctl.machine.devices import num_cores

CONNECT_SECONDS = 10.0
_STORE_BYTES = 80 * 2**20  # Ray's minimum is 75 MiB; results are smaller


@contextmanager
def connected(workers: int | None, address: str | None) -> Iterator[Any]:
    """Ray, connected to the cluster at `address` or in $RAY_ADDRESS. A connection that is
    there already is used and kept.

    Without an address a Ray with `workers` cores is started on this machine and ended afterwards.
    None is all cores. Raises UsageError if Ray is not installed, GridctlError if the cluster
    cannot be used.
    """
    ray = import_ray()
    address = address_of(address)
    if ray.is_initialized() and address is None:
        yield ray
        return
    where: dict[str, Any] = {"address": address}
    if address is None:
        where = {
            "address": "local",
            "num_cpus": workers or num_cores(),
            "object_store_memory": _STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        _refuse_dead(address)
        ray.init(**where, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise GridctlError(
            f"no Ray at {address or 'this machine'} ({reason}); check --ray-address, or start one "
            "with `ray start --head`."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _refuse_dead(address: str | None) -> None:
    """Raise OSError if nothing listens at `host:port`, where Ray would wait for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


def import_ray() -> Any:
    # Ray prints on stdout which workers died. It reads this variable when it is imported.
    silence = "RAY_DEDUP_LOGS_SKIP_REGEX"
    before = os.environ.get(silence)
    os.environ[silence] = ".*"
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray needs Ray; run: pip install 'gridctl[ray]'") from None
    finally:
        if before is None:
            del os.environ[silence]
        else:
            os.environ[silence] = before
    return ray


def address_of(address: str | None) -> str | None:
    """`address`, else the one in the environment, as Ray's own tools do."""
    return address or os.environ.get("RAY_ADDRESS") or None


def here() -> tuple[str, str]:
    """Where this process is, for `go_to` in a worker."""
    return str(Path.cwd()), __version__


def go_to(caller: tuple[str, str]) -> None:
    """In a worker: change to the caller's folder. RuntimeError if gridctl differs from its."""
    folder, version = caller
    if version != __version__:
        raise RuntimeError(f"it has gridctl {__version__}, and the command is {version}")
    with suppress(OSError):  # a node without this folder can still read absolute paths
        os.chdir(folder)


def cannot_run(error: Exception) -> GridctlError:
    """What to say when a node cannot even start a job."""
    fault = str(error).strip().splitlines()[-1]
    return GridctlError(
        f"a Ray node cannot run gridctl ({fault}); install the same gridctl on each node."
    )
