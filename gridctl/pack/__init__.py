"""Pack: videos, animations and folders of frames → grid images."""

from gridctl.pack.run import pack

__all__ = ["pack"]
