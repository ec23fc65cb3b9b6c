"""Tell videos, images and other files apart: by suffix, or by content if that is unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gridctl.files import open_regular
from gridctl.storage import StorageError

Kind = Literal["video", "image"]

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".264", ".265", ".3g2", ".3gp", ".apng", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif",
    ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg",
    ".mk3d", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogm",
    ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m",
})
IMAGE_SUFFIXES = frozenset({
    ".avif", ".bmp", ".dib", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm",
    ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
})
# Pictures that neither Pillow nor our FFmpeg reads.
UNREAD_PICTURES = frozenset({
    ".arw", ".cr2", ".cr3", ".dng", ".exr", ".hdr", ".heic", ".heif", ".hif", ".jxl", ".nef",
    ".orf", ".psd", ".raf", ".rw2", ".svg",
})
# Text that belongs beside clips and grids.
SIDECAR_SUFFIXES = frozenset({".ass", ".csv", ".json", ".jsonl", ".srt", ".txt", ".vtt"})
_OTHER_SUFFIXES = SIDECAR_SUFFIXES | {  # not worth opening
    ".aac", ".ac3", ".db", ".flac", ".heic", ".ini", ".log", ".m4a", ".md", ".mka", ".mp3", ".npy",
    ".npz", ".opus", ".parquet", ".pdf", ".py", ".safetensors", ".tar", ".toml", ".tsv", ".wav",
    ".wma", ".xml", ".yaml", ".yml", ".zip",
}
# What storage devices, archivers and desktops add to folders; names in lower case.
SYSTEM_FOLDERS = frozenset({
    "#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recently-snapshot", "@recycle",
    "@sharebin", "@tmp", "__macosx", "_gsdata_", "found.000", "lost+found",
    "network trash folder", "recycler", "system volume information", "temporary items",
})
_SYSTEM_FILES = frozenset({"desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db"})
_IMAGE_STARTS = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ",
)
_VIDEO_STARTS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"FLV\x01", b"GIF8", b"DKIF", b"YUV4MPEG2", b"nut/multimedia", b".RMF",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b"\x06\x0e\x2b\x34",  # MXF
    b"\0\0\x01\xba", b"\0\0\x01\xb3",  # MPEG program and elementary streams
)
# fmt: on
_HEAD_BYTES = 4096


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or belongs to a system and not to its user."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS or name.lower() in _SYSTEM_FILES


def kind_of(path: Path) -> Kind | None:
    """Whether a file is a video or animation, or an image; None if neither.

    Opens only files of unknown suffix. A file that cannot be read is neither.
    """
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if suffix in _OTHER_SUFFIXES:
        return None
    try:
        with open_regular(path) as file:
            return _kind_of_content(file.read(_HEAD_BYTES))
    except (OSError, StorageError):
        return None


def _kind_of_content(head: bytes) -> Kind | None:
    if head[4:8] == b"ftyp":  # MP4, QuickTime and 3GP; HEIC and M4A have brands of their own
        brand = head[8:12]
        if brand in (b"avif", b"avis"):
            return "image"
        return None if brand[:3] in (b"hei", b"hev", b"mif", b"msf", b"M4A", b"M4B") else "video"
    if head[4:8] in (b"moov", b"mdat", b"wide"):  # QuickTime without ftyp
        return "video"
    if head[:4] == b"RIFF":
        return {b"WEBP": "image", b"AVI ": "video"}.get(head[8:12])  # type: ignore[return-value]
    if head[:4] == b"OggS":
        codecs = (b"theora", b"BBCD", b"OVP80")  # Theora, Dirac, VP8; else it is sound
        return "video" if any(codec in head for codec in codecs) else None
    if is_transport_stream(head) or head.startswith(_VIDEO_STARTS):
        return "video"
    return "image" if head.startswith(_IMAGE_STARTS) else None


def is_transport_stream(head: bytes) -> bool:
    """Packets of 188 bytes that begin with 0x47; of 192 with a time code before, on Blu-ray."""
    return any(
        len(head) > start + 3 * size and all(head[start + k * size] == 0x47 for k in range(4))
        for start, size in ((0, 188), (4, 192), (0, 204))
    )
