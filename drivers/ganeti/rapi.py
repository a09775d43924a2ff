"""Ganeti's REST API: requests to it, and its errors translated into ours.

Only codes tell errors apart: those of HTTP, and those of a failed job. Messages are for people.
Source: Ganeti remote API, and Ganeti's errors, "ECODE_*".
"""

import json
import ssl
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ...errors import DriverError, HostError, NotFoundError
from ...host.bounds import WORD_LENGTH, clipped
from ..clusters import place
from .cluster import Cluster
from .seen import Seen

if TYPE_CHECKING:
    from pathlib import Path

_CONNECT_S, _READ_S = 5.0, 60.0
"""Reads take longer: a cluster that asks its nodes waits for those that do not answer."""

_ANSWER_BYTES = 64 << 20
"""The longest answer that is accepted. A listing of a thousand instances is 5 MiB."""

Query = Mapping[str, str | int | Sequence[str]]
"""The parameters of a request's URL; one that has several values is repeated."""

_DENIED = (401, 403)
_MISSING = 404
_REFUSED = 400
_FAILED = 500


class UnansweredError(DriverError):
    """The cluster did not answer, or its answer is not RAPI's: the request may or may not have been carried out."""


UNKNOWN = "unknown_entity"
"""Ganeti's code for the failure of a job that names something that does not exist, such as a tag to remove."""


class FailedError(DriverError):
    """A job failed or was not accepted; `code` is Ganeti's own code for the reason, such as UNKNOWN."""

    def __init__(self, message: str, code: str = "", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class Rapi:
    """A connection to the cluster, closed at the end of the block."""

    def __init__(self, cluster: Cluster, root: "Path", answer_s: float = _READ_S) -> None:
        import httpx

        self.cluster = cluster
        try:
            context = ssl.create_default_context(cadata=cluster.certificate)
        except ssl.SSLError as error:
            raise HostError(f"{place(root, cluster.name)}: certificate is not a PEM certificate") from error
        # The certificate itself is trusted, for any host name and any signer.
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._client = httpx.Client(
            base_url=cluster.url,
            auth=(cluster.user, cluster.secret),
            verify=context,
            timeout=httpx.Timeout(answer_s, connect=_CONNECT_S),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **query: str | int) -> Any:
        """Return the resource at `path`, such as `/2/instances`, as JSON values."""
        return self.ask("GET", path, None, query)

    def instance(self, name: str) -> Seen:
        """Return the instance called `name`; raises what `ask` raises, such as NotFoundError."""
        path = f"/2/instances/{name}"
        found = self.get(path)
        if not isinstance(found, dict):
            raise self._unreadable("GET", path)
        return Seen.of(found)

    def instances(self) -> list[Seen]:
        """Return all instances of the cluster."""
        path = "/2/instances"
        found = self.get(path, bulk=1)
        if not isinstance(found, list):
            raise self._unreadable("GET", path)
        return [Seen.of(one) for one in found if isinstance(one, dict)]

    def submit(
        self, method: str, path: str, body: Mapping[str, Any] | str | None = None, query: Query | None = None
    ) -> int:
        """Submit a job and return its number."""
        try:
            return int(self.ask(method, path, body, query))
        except (ValueError, TypeError):
            raise self._unreadable(method, path) from None

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | str | None = None, query: Query | None = None
    ) -> Any:
        """Return the answer to a request, as JSON values; if the request submits a job, that is the job's number.

        RAPI takes a `query` or a `body`, not both.

        Raises NotFoundError if there is no such resource, HostError if RAPI denies access, FailedError for any
        other refusal; in these cases nothing was done. Raises UnansweredError if it is unknown whether the request was
        carried out: the answer is missing, is not RAPI's, or reports a failure of the server.
        """
        import httpx

        try:
            with self._client.stream(method, path, json=body, params=query) as response:
                status, content = response.status_code, bytearray()
                for piece in response.iter_bytes():
                    content += piece
                    if len(content) > _ANSWER_BYTES:
                        raise UnansweredError(f"{self._who}: the answer to {method} {path} is too large")
        except httpx.HTTPError as error:
            raise UnansweredError(f"{self._who} does not answer at {self.cluster.url}: {_words(error)}") from error
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if status < _REFUSED:
            if answer is None:
                raise self._unreadable(method, path)
            return answer
        said = answer if isinstance(answer, dict) else {}
        words = clipped(str(said.get("message") or said.get("explain") or f"HTTP status {status}"), WORD_LENGTH)
        if status in _DENIED:
            raise HostError(f'{self._who} does not let user "{self.cluster.user}" do that: {words}')
        if status == _MISSING and said.get("code") == _MISSING:
            raise NotFoundError(f"{self._who} has no {path}")
        if status == _MISSING or status >= _FAILED:  # a 404 can come from another server at this address
            raise UnansweredError(f"{self._who} does not answer at {self.cluster.url}: {words}")
        raise FailedError(f"{self._who}: {words}")

    def _unreadable(self, method: str, path: str) -> UnansweredError:
        return UnansweredError(f"{self._who}: the answer to {method} {path} is not a valid RAPI answer")

    @property
    def _who(self) -> str:
        return f'cluster "{self.cluster.name}"'


def failure(cluster: Cluster, result: object) -> FailedError:
    """Return the error for a job that ended with `result`: [class, [words, code]], as Ganeti encodes its exceptions."""
    kind, words, code = "", "", ""
    if isinstance(result, list) and result:
        kind = str(result[0])
        said = result[1] if len(result) > 1 else ""
        if isinstance(said, list) and said:
            words = str(said[0])
            code = str(said[1]) if len(said) > 1 else ""
        else:
            words = str(said)
    cause = clipped(" ".join(words.split()) or kind or "the job failed", WORD_LENGTH)
    return FailedError(f'cluster "{cluster.name}": {cause}', code or kind)


def _words(error: Exception) -> str:
    return clipped(str(error) or type(error).__name__, WORD_LENGTH)
