"""Object storage and the web behind the methods of `pathlib.Path` that gridctl uses.

fsspec does the work. Why not universal_pathlib: it downloads a file on the web to find out whether
that is a folder, asks the server again about every file that was just listed, and reports a
network fault as a missing file.
"""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TypeVar, cast

from gridctl.errors import InputError, UsageError
from gridctl.ranges import open_ranges

Result = TypeVar("Result")

_YEAR_1980, _YEAR_2001 = 315_619_200, 978_307_200  # in seconds; even
_AT_ONCE = 16  # requests that wait at the same time
# Scheme → the package that reads it.
_PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "https": "aiohttp",
    "http": "aiohttp",
    "hf": "huggingface_hub",  # gridctl needs it anyway
    "memory": "fsspec",  # the memory of this process, for tests
}
# Whose exceptions are faults of storage or of the way to it. Others are bugs, and not hidden.
_LIBRARIES = frozenset({
    "aiobotocore", "aiohttp", "asyncio", "botocore", "fsspec", "gcsfs", "google", "httpcore",
    "httpx", "huggingface_hub", "requests", "s3fs", "urllib3",
})  # fmt: skip
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://(?P<host>[^/]*)(?P<path>.*)", re.DOTALL)
_COLLAPSED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/[^/]")  # what pathlib makes of a URL


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """Size and stamp of a file or folder, as storage reports them.

    `stamp_ns` is another number when the content is another, like the time of a local file. It
    is made from the checksum, because times there are whole seconds or absent. It is a time that
    every file system can store for a copy: an even second between 1980 and 2001.
    """

    is_dir: bool
    size: int = 0
    stamp_ns: int = 0

    @property
    def st_size(self) -> int:
        return self.size

    @property
    def st_mtime_ns(self) -> int:
        return self.stamp_ns


class StorageError(InputError):
    """Storage that cannot be read or written.

    Not an OSError, because a fault of the network says nothing about the file.
    """

    def __init__(self, url: Url, fact: str) -> None:
        super().__init__(
            f"{url} cannot be reached ({fact}); check the name, your credentials and the network, "
            "and run the command again."
        )


def as_path(name: str | Path) -> Path:
    """The path that a user typed: `s3://bucket/key` and other URLs, or a path on this machine.

    URLs are s3://, gs://, hf://, https://, http:// and memory://. A URL is returned as a `Url`,
    which has the methods of Path that gridctl calls. Raises UsageError for any other scheme.
    """
    if not isinstance(name, str):
        return name
    found = _URL.fullmatch(name)
    if found is None:
        return Path(name)
    scheme = found["scheme"].lower()
    if scheme not in _PACKAGES:
        raise UsageError(
            f"{name}: gridctl does not read {scheme}://; use s3://, gs://, hf:// or https://, or "
            "copy the files to this machine."
        )
    if "@" in found["host"]:
        raise UsageError(
            f"{scheme}://...@{found['host'].rpartition('@')[2]} has credentials in it, which would "
            "be printed; put them where its library reads them, such as ~/.netrc."
        )
    path, mark, query = found["path"], "", ""
    if scheme in ("http", "https"):
        path, mark, query = found["path"].partition("?")
    root = f"{scheme}://{found['host']}"
    return cast(Path, Url(root, PurePosixPath("/", path), query=mark + query))


def is_remote(path: Path | str) -> bool:
    """Whether `path` is a URL from `as_path`, or the text of one."""
    return isinstance(path, Url) or (isinstance(path, str) and _URL.fullmatch(path) is not None)


def map_paths(work: Callable[[Path], Result], paths: Sequence[Path]) -> Iterator[Result]:
    """`work(path)` for each path, in order. In storage many at a time: each waits for an answer."""
    if not any(isinstance(path, Url) for path in paths):
        yield from map(work, paths)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for first in range(0, len(paths), 4 * _AT_ONCE):  # so that a caller can stop soon
            yield from pool.map(work, paths[first : first + 4 * _AT_ONCE])


def refuse_remote(path: Path | str, what: str) -> None:
    """Raise UsageError if `path` is a URL, also one that pathlib has made `s3:/...` of."""
    if is_remote(path) or _COLLAPSED.match(str(path)):
        raise UsageError(
            f"{re.sub(':/+', '://', str(path), count=1)}: {what} must be on this machine; name a "
            "local path, and copy from or to storage yourself."
        )


@dataclass(frozen=True)
class Url:
    """A file or folder in storage. Immutable, and cheap to send to other processes.

    Folders there are only names with a common beginning: they need not be made, and exist if
    something is in them. Raises StorageError wherever storage cannot be reached, FileNotFoundError
    where it says that there is no such file.
    """

    root: str
    """Scheme and bucket or host, such as s3://bucket."""
    path: PurePosixPath
    query: str = field(default="", compare=False, repr=False)
    """The query of a web address, with its ?. It may be a signature, so it is never printed."""
    known: FileInfo | None = field(default=None, compare=False, repr=False)
    """The answer of a listing. Saves asking for it."""

    def __str__(self) -> str:
        return f"{self.root}{self.path}"

    def __lt__(self, other: Url) -> bool:
        return (self.root, self.path) < (other.root, other.path)

    def as_posix(self) -> str:
        return str(self)

    @property
    def scheme(self) -> str:
        return self.root.partition(":")[0]

    @property
    def is_web(self) -> bool:
        """Whether it is on the web, where nothing can be listed or written."""
        return self.scheme in ("http", "https")

    # Names

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def stem(self) -> str:
        return self.path.stem

    @property
    def suffix(self) -> str:
        return self.path.suffix

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.root, *self.path.parts[1:])

    @property
    def parent(self) -> Url:
        return Url(self.root, self.path.parent)

    def __truediv__(self, name: str | PurePath) -> Url:
        return Url(self.root, self.path / name)

    def with_name(self, name: str) -> Url:
        return Url(self.root, self.path.with_name(name))

    def with_suffix(self, suffix: str) -> Url:
        return Url(self.root, self.path.with_suffix(suffix))

    def relative_to(self, other: Url) -> PurePosixPath:
        if not isinstance(other, Url) or self.root != other.root:
            raise ValueError(f"{self} is not in {other}")
        return self.path.relative_to(other.path)

    def is_relative_to(self, other: Url) -> bool:
        return self.root == getattr(other, "root", None) and self.path.is_relative_to(other.path)

    def absolute(self) -> Url:
        return self

    def resolve(self) -> Url:
        return self

    def is_symlink(self) -> bool:
        return False

    # Reading

    def stat(self) -> FileInfo:
        if self.known:
            return self.known
        with self._faults():
            return _info(self._system().info(self._address))

    def exists(self) -> bool:
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        try:
            return not self.is_web and self.stat().is_dir
        except FileNotFoundError:
            return False

    def is_file(self) -> bool:
        try:
            return not self.stat().is_dir
        except FileNotFoundError:
            return False

    def iterdir(self) -> Iterator[Url]:
        """The content of a folder, with sizes and stamps, so that asking for them costs nothing."""
        if self.is_web:
            raise StorageError(self, "a folder on the web cannot be listed")
        with self._faults():
            system = self._system()
            found = system.ls(self._address, detail=True)
            own = PurePosixPath(system._strip_protocol(self._address))
        for entry in found:
            path = PurePosixPath(entry["name"])
            if path != own:  # consoles mark a folder by an empty file of its name
                yield replace(self / path.name, known=_info(entry))

    def open(
        self, mode: str = "r", *, encoding: str | None = None, errors: str | None = None
    ) -> Any:
        """A file to read, by ranges."""
        if mode not in ("r", "rb"):
            raise io.UnsupportedOperation(f"{self}: storage is written with upload()")
        info = self.stat()
        key = (self.root, self.path, info)
        file = open_ranges(self.read_range, name=str(self), size=info.size, key=key)
        return file if mode == "rb" else io.TextIOWrapper(file, encoding=encoding, errors=errors)

    def read_bytes(self) -> bytes:
        # One request: s3fs would first ask how long the file is, to read parts side by side.
        plain = {"max_concurrency": 1} if self.scheme == "s3" else {}
        with self._faults():
            return cast(bytes, self._system().cat_file(self._address, **plain))

    def read_range(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to and without `end`."""
        # Without this, huggingface_hub reads 5 MB more than it is asked for.
        plain = {"cache_type": "none"} if self.scheme == "hf" else {}
        with self._faults():
            data = self._system().cat_file(self._address, start=start, end=end, **plain)
        if len(data) != end - start:
            fact = "the server ignores ranges" if len(data) > end - start else "it has changed"
            raise StorageError(self, fact)
        return cast(bytes, data)

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    # Writing

    def refuse_unwritable(self) -> None:
        """Raise UsageError if nothing can be written to storage of this kind."""
        if self.is_web:
            raise UsageError(
                f"{self} is on the web, which can only be read; write to a folder on this machine "
                "or to a bucket."
            )
        if self.scheme == "hf":
            raise UsageError(
                f"{self} is only read, because each file written would be a commit; write to a "
                "folder on this machine, then upload it with: hf upload-large-folder"
            )

    def upload(self, file: Path) -> None:
        """Write the content of a local file, whole or not at all."""
        try:
            with self._faults():
                self._system().put_file(str(file), self._address)
        except FileNotFoundError as error:
            raise StorageError(self, "no such bucket") from error

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with self._faults():
                self._system().rm_file(self._address)
        except FileNotFoundError:
            if not missing_ok:
                raise

    @property
    def _address(self) -> str:
        return f"{self}{self.query}"

    def _system(self) -> Any:
        """The file system of fsspec. It is asked for each time, because it survives no fork."""
        package = _PACKAGES[self.scheme]
        try:
            __import__(package)
        except ImportError:
            raise UsageError(
                f"{self.scheme}:// needs {package}; run: pip install {package}"
            ) from None
        import logging

        import fsspec

        logging.getLogger(package).setLevel(logging.ERROR)  # gcsfs warns of what it cannot look up
        options: dict[str, Any] = {"use_listings_cache": False}  # other processes write too
        if self.is_web:  # proxies and ~/.netrc, as every other program reads them
            options["client_kwargs"] = {"trust_env": True}
        return fsspec.filesystem(self.scheme, **options)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn faults of storage and of the network into StorageError, or FileNotFoundError."""
        try:
            yield
        except (UsageError, StorageError):
            raise
        except Exception as error:
            fault = error
            if self.is_web and isinstance(error.__cause__, Exception):
                fault = error.__cause__  # fsspec calls any fault on the web a missing file
            status = getattr(fault, "status", None)
            if isinstance(fault, FileNotFoundError) or status in (404, 410):
                message = "no such file"
                raise FileNotFoundError(errno.ENOENT, message, str(self)) from error
            if not _is_fault_of_storage(fault):
                raise
            raise StorageError(self, self._fact(fault, status)) from error

    def _fact(self, fault: Exception, status: object) -> str:
        if isinstance(status, int):
            return f"HTTP {status} {getattr(fault, 'message', '')}".strip()
        text = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
        if self.query:
            text = text.replace(self.query, "")
        return " ".join(text.split()).rstrip(".")


def _is_fault_of_storage(error: Exception) -> bool:
    if isinstance(error, OSError):
        return True
    kinds = (kind.__module__.partition(".")[0] for kind in type(error).__mro__)
    return not _LIBRARIES.isdisjoint(kinds)


def _info(found: dict[str, Any]) -> FileInfo:
    if found["type"] == "directory":
        return FileInfo(is_dir=True)
    size = found.get("size")
    if size is None:
        raise OSError(errno.EIO, "the server does not say how long it is")
    names = ("ETag", "etag", "md5Hash", "blob_id", "Last-Modified", "LastModified", "created")
    known = next((str(found[name]) for name in names if found.get(name)), "")
    import hashlib

    digest = int.from_bytes(hashlib.sha256(known.encode()).digest()[:8], "big")
    seconds = _YEAR_1980 + digest % ((_YEAR_2001 - _YEAR_1980) // 2) * 2
    return FileInfo(is_dir=False, size=int(size), stamp_ns=seconds * 10**9)
