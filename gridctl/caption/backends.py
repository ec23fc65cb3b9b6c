"""Which model describes grids, as the profile says."""

from __future__ import annotations

import os

from gridctl.caption.question import Describer
from gridctl.errors import UsageError
from gridctl.profile import LoadedProfile, Profile

# Flags that only some backends use.
_USED_BY = {
    "model": ("vlm", "server"),
    "view": ("vlm", "server"),
    "prompt": ("vlm", "server"),
    "server": ("server",),
    "concurrency": ("server",),
    "rate": ("server",),
    "engine": ("vlm", "server"),
    "ray_address": ("vlm", "server"),
}


def refuse_unused_flags(loaded: LoadedProfile) -> None:
    """Raise UsageError for a flag that the chosen backend does not use.

    A profile may hold settings for several backends, but a flag is meant for this run.
    """
    backend = loaded.profile.caption.backend
    for name, users in _USED_BY.items():
        if loaded.origins[f"caption.{name}"] == "flag" and backend not in users:
            others = " or ".join(f"--backend {user}" for user in users)
            raise UsageError(
                f"the backend {backend} does not use --{name}; add {others}, or leave it out."
            )


def open_describer(profile: Profile) -> Describer | None:
    """The profile's model; None for the backend template, which needs none.

    The server's key is read from the environment only. Raises UsageError if the profile
    does not say enough, GridctlError if the model cannot be loaded or reached.
    """
    settings = profile.caption
    if settings.backend == "template":
        return None
    on_ray = settings.engine == "ray"
    if settings.backend == "vlm" and on_ray:
        from gridctl.caption.on_ray import VlmOnRay

        return VlmOnRay(profile=profile)
    if settings.backend == "vlm":
        from gridctl.caption.vlm import open_vlm

        return open_vlm(profile)
    if settings.server is None:
        raise UsageError(
            "the backend server needs an address; add --server URL, such as "
            "http://localhost:8000/v1."
        )
    from gridctl.caption.server import ServerDescriber, only_model

    key = _server_key(settings.key_variable)
    model = settings.model or only_model(settings.server, key=key)
    if not on_ray:
        return ServerDescriber(settings=settings, model=model, key=key)
    from gridctl.caption.on_ray import ServerOnRay

    alone = settings.model_copy(update={"concurrency": 1, "rate": None})
    return ServerOnRay(
        model=model,
        ask=ServerDescriber(settings=alone, model=model, key=key),
        concurrency=settings.concurrency,
        rate=settings.rate,
        address=settings.ray_address,
    )


def _server_key(variable: str) -> str | None:
    key = os.environ.get(variable, "").strip() or None
    if key and not (key.isascii() and key.isprintable()):  # an HTTP header cannot hold it
        raise UsageError(
            f"the key in ${variable} has line breaks or characters that no key has; copy it again."
        )
    return key
