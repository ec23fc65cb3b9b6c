"""Which model describes grids, by the profile."""

from __future__ import annotations

import os

from gridctl.caption.question import Asking, Describer
from gridctl.errors import UsageError
from gridctl.profile import CaptionSection, Profile


def asking_of(settings: CaptionSection) -> Asking:
    """The profile's way to ask a model."""
    return Asking(
        prompt=settings.prompt,
        view=settings.view,
        keyframes=settings.keyframes,
        image_side=settings.image_side,
    )


def open_describer(profile: Profile) -> Describer | None:
    """The profile's model; None for the template, which needs none.

    Raises UsageError if the profile does not say enough, GridctlError if the model cannot
    be had. The server's key comes from the environment and from nowhere else.
    """
    settings = profile.caption
    if settings.backend == "template":
        return None
    if settings.backend == "vlm":
        from gridctl.caption.vlm import open_vlm

        return open_vlm(profile)
    if settings.server is None:
        raise UsageError(
            "the backend server needs an address; add --server URL, such as "
            "http://localhost:8000/v1."
        )
    from gridctl.caption.server import ServerDescriber, only_model

    key = os.environ.get(settings.key_variable, "").strip() or None
    if key and not (key.isascii() and key.isprintable()):  # no header can hold it
        raise UsageError(
            f"the key in ${settings.key_variable} has line breaks or signs that no key has; "
            "copy it again."
        )
    return ServerDescriber(
        url=settings.server,
        model=settings.model or only_model(settings.server, key=key),
        key=key,
        concurrency=settings.concurrency,
        rate_per_minute=settings.rate,
        retries=settings.retries,
        timeout_seconds=settings.timeout_seconds,
        max_tokens=settings.max_tokens,
        request=settings.request,
    )
