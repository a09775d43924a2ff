"""Downloads one file over HTTP into the store: retries after a failure, and resumes after a cut.

The download may end at any byte, with the network or with this process, and the next process that wants the file
resumes it: a folder of `Store.downloads` keeps the bytes so far and the server's validators (ETag, Last-Modified).
Only a server with the same validators is asked for the rest. Source: RFC 9110, 13.1.5 (If-Range) and 14 (ranges).

Proxies and certificate authorities are those of the environment, as httpx reads it: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY,
NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR.
"""

import hashlib
import json
import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from ..errors import HostError, ImageError
from ..host import cancellation
from ..host.files import beside, flush_directory, open_private, read_own, retire, write_whole
from ..host.progress import Pace, Report
from .source import Place
from .space import check_space, mib
from .store import Store

if TYPE_CHECKING:
    import httpx

PAUSES_S: tuple[float, ...] = (1, 3, 9)
"""The pause before each further try; they start over once a try has brought bytes."""

LONGEST_PAUSE_S = 60.0
"""The longest pause, whatever a server's Retry-After says."""

TIMEOUT_S = 30.0
"""For the connection, and for each further piece."""

_STEP_PERCENT = 10
_STEP_BYTES = 100 * 2**20
"""How often progress is reported where the total size is unknown."""

_CHUNK_BYTES = 2**20
_TRANSIENT = {408, 429, 500, 502, 503, 504}
_UNSATISFIABLE = 416
_PARTIAL = 206


class _CutError(Exception):
    """A try failed, and another may succeed."""

    def __init__(self, cause: str, pause_s: float | None = None) -> None:
        super().__init__(cause)
        self.pause_s = pause_s
        """The pause that the server asked for."""


class Download:
    """The folder of one download. Changing it takes the lock in its file `lock` (`locks.held`)."""

    def __init__(self, folder: Path) -> None:
        """Describe the download in `folder`; nothing is read or made yet."""
        self.folder = folder
        self.content = folder / "content"
        self._validators = folder / "validators.json"

    @classmethod
    def of(cls, store: Store, place: Place) -> Self:
        """Return the download of `place`: another URL, or another digest, is another download."""
        return cls(store.downloads / hashlib.sha256(f"{place.shown}\n{place.digest}".encode()).hexdigest()[:32])

    @property
    def size_bytes(self) -> int:
        """How many bytes are here."""
        return self.content.stat().st_size if self.content.exists() else 0

    @property
    def location(self) -> str:
        """Where it comes from, as people see it; the folder's name if that is unknown."""
        return str(self._read().get("location") or self.folder.name)

    @property
    def validators(self) -> dict[str, str]:
        """The server's validators of the file whose beginning is here: `etag`, `last_modified`; may be empty."""
        return {key: value for key, value in self._read().items() if key in ("etag", "last_modified")}

    @property
    def total_bytes(self) -> int | None:
        """The size that the server announced, if it did."""
        value = self._read().get("total_bytes")
        return value if isinstance(value, int) else None

    def begin(self, location: str, validators: Mapping[str, str], total_bytes: int | None) -> None:
        """Forget what is here, and record what is coming now."""
        # In this order, because content without validators is discarded, never resumed under those of another file.
        self.content.unlink(missing_ok=True)
        flush_directory(self.folder)
        record = {"location": location, "total_bytes": total_bytes, **validators}
        write_whole(self._validators, json.dumps(record).encode())

    def remove(self) -> None:
        """Remove the whole folder, its lock file included. What the next holder of the lock makes is kept."""
        with suppress(FileNotFoundError):
            retire(self.folder, beside(self.folder))

    def _read(self) -> dict[str, Any]:
        try:
            data = json.loads(read_own(self._validators))
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}


def download(place: Place, into: Download, report: Report) -> str:
    """Download `place` into `into.content` and return its digest: of the publisher's kind, or SHA-256.

    The caller holds `into`'s lock. Raises ImageError with the cause; what has arrived is kept, unless it is wrong.
    Raises HostError for problems that any server would meet: no space, an unusable proxy or certificate.
    """
    import httpx

    try:
        client = httpx.Client(follow_redirects=True, timeout=TIMEOUT_S)
    except (OSError, ValueError, httpx.InvalidURL) as err:
        raise HostError(
            "the proxy or the certificates that the environment names (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, "
            f"SSL_CERT_FILE, SSL_CERT_DIR) cannot be used: {err}",
            hint="env | grep -iE '_proxy=|^ssl_cert_'",
        ) from err
    with client:
        transfer = _Transfer(client, place, into, report)
        found = transfer.run()
        if place.digest not in (None, found) and transfer.resumed:
            # A power cut can corrupt it: a file's length may reach the disk before its content.
            report(f"the partial download of {place.shown} is corrupt; starting over")
            into.content.unlink()
            found = transfer.run()
    if place.digest not in (None, found):
        into.remove()
        raise ImageError(
            f"{place.shown} has another digest than expected", details=(f"expected {place.digest}", f"found    {found}")
        )
    return found


class _Transfer:
    """The tries of one download."""

    def __init__(self, client: "httpx.Client", place: Place, into: Download, report: Report) -> None:
        self._client, self._place, self._into, self._report = client, place, into, report
        self._algorithm = (place.digest or "sha256").partition(":")[0]
        self._told = 0

    def run(self) -> str:
        """Return the digest of the whole content, within the number of tries allowed."""
        self._recall()
        pauses, best = list(PAUSES_S), self._size
        while True:
            try:
                self._try()
            except _CutError as cut:
                if self._size > best:
                    pauses, best = list(PAUSES_S), self._size
                if not pauses:
                    raise ImageError(f"cannot download {self._place.shown}", details=(str(cut),)) from cut
                pause_s = max(pauses.pop(0), min(cut.pause_s or 0.0, LONGEST_PAUSE_S))
                self._report(f"{self._place.shown}: {cut}; trying again in {pause_s:.0f} s")
                cancellation.pause(pause_s)
            else:
                return f"{self._algorithm}:{self._hasher.hexdigest()}"

    def _recall(self) -> None:
        """Take over what an earlier process left, if the server can tell by validators that the file is the same."""
        self._hasher = hashlib.new(self._algorithm)
        self._size = 0
        self.resumed = False
        if self._into.validators and self._into.content.exists():
            with self._into.content.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    self._hasher.update(chunk)
                    self._size += len(chunk)
            self.resumed = self._size > 0

    def _try(self) -> None:
        """Return once the file is whole. Raises _CutError when another try may help, ImageError when it cannot."""
        import httpx

        # The digest is of the published bytes, so they must not be compressed on the way.
        headers = {"Accept-Encoding": "identity"}
        known = self._into.validators
        if self._size and known:
            headers |= {"Range": f"bytes={self._size}-", "If-Range": known.get("etag") or known["last_modified"]}
        try:
            with ExitStack() as stack:
                with cancellation.interruptible():
                    answer = self._client.stream("GET", self._place.location, headers=headers)
                    response = stack.enter_context(answer)
                if response.status_code in _TRANSIENT:
                    raise _CutError(_status(response), _retry_after(response.headers.get("Retry-After", "")))
                if response.status_code == _UNSATISFIABLE:
                    # There is no rest: the cut came after the last byte, or the file has changed.
                    if _range(response)[1] == self._size and self._into.total_bytes in (None, self._size):
                        return
                    self._restart({}, None)
                    raise _CutError("the file on the server has changed")
                if not response.is_success:
                    raise ImageError(f"cannot download {self._place.shown}", details=(_status(response),))
                self._take(response)
        except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL) as err:
            raise ImageError(f"cannot download {self._place.shown}", details=(str(err),)) from err
        except httpx.ConnectError as err:
            if self._size == 0 and _is_final(err):
                raise ImageError(f"cannot download {self._place.shown}", details=(str(err),)) from err
            raise _CutError(str(err) or type(err).__name__) from err
        except httpx.HTTPError as err:
            raise _CutError(str(err) or type(err).__name__) from err

    def _take(self, response: "httpx.Response") -> None:
        validators = _strong(response.headers)
        if response.status_code == _PARTIAL:
            begin, total = _range(response)
            # Some servers support ranges without If-Range.
            known = (self._size, self._into.validators)
            if (begin, validators) != known or self._into.total_bytes not in (None, total):
                self._restart({}, None)
                raise _CutError("the file on the server has changed")
            self._report(f"continuing {self._place.shown} at {mib(self._size)}")
        else:
            if self._size:
                self._report(f"the server cannot continue {self._place.shown}; starting over")
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
            self._restart(validators, total)
            self._report(f"downloading {self._place.shown}")
        if total:
            check_space(self._into.folder, total - self._size, f"downloading {self._place.shown}")
        with open_private(self._into.content, "ab") as file:
            self._write(file, response, total)
        if total is not None and self._size != total:
            raise _CutError(f"{self._size} of {total} bytes were received")

    def _write(self, file: IO[bytes], response: "httpx.Response", total: int | None) -> None:
        self._told = self._steps(total)
        pace = Pace()
        pace.left(self._size, total or 0)
        for chunk in cancellation.each(response.iter_raw()):
            file.write(chunk)
            self._hasher.update(chunk)
            self._size += len(chunk)
            if self._steps(total) > self._told:
                self._told = self._steps(total)
                left = pace.left(self._size, total or 0)
                far = f"{self._told * _STEP_PERCENT} % of {mib(total)}{left}" if total else mib(self._size)
                self._report(f"downloading {self._place.shown}: {far}")

    def _steps(self, total: int | None) -> int:
        """Return how many reports of progress are due by now."""
        return self._size * 100 // total // _STEP_PERCENT if total else self._size // _STEP_BYTES

    def _restart(self, validators: Mapping[str, str], total: int | None) -> None:
        self._into.begin(self._place.shown, validators, total)
        self._hasher = hashlib.new(self._algorithm)
        self._size = 0
        self.resumed = False


def _is_final(error: BaseException | None) -> bool:
    """True when the next try would fail in the same way: connection refused, unknown host, wrong certificate.

    A server that has sent a part of the file may come back, and so may the name service.
    """
    while error is not None:
        if isinstance(error, socket.gaierror):
            return error.errno != socket.EAI_AGAIN
        if isinstance(error, ConnectionRefusedError | ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _strong(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the validators that tell this file from a later one; a weak tag does not. Source: RFC 9110, 8.8.1."""
    found = {"etag": headers.get("ETag", ""), "last_modified": headers.get("Last-Modified", "")}
    return {key: value for key, value in found.items() if value and not value.startswith("W/")}


def _range(response: "httpx.Response") -> tuple[int | None, int | None]:
    """Return (first byte, size of the whole file) of a Content-Range. Source: RFC 9110, 14.4."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", response.headers.get("Content-Range", ""))
    first, total = match.groups() if match else (None, None)
    return int(first) if first else None, int(total) if total else None


def _retry_after(value: str) -> float | None:
    """Return the seconds that the header's value means: a number, or a date. Source: RFC 9110, 10.2.3."""
    if value.isdecimal():
        return float(value)
    try:
        return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None


def _status(response: "httpx.Response") -> str:
    return f"the server answered {response.status_code} {response.reason_phrase}".strip()
