"""A small client of the lab's API, with which `Lab` asks the master as the admin. It blocks and needs only the standard library.

People use kubectl. This client serves the few calls of `up`, `status`, `why` and others, because it costs no start-up time.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labctl.errors import ApiError, LabctlError


class LabClient:
    """One keep-alive connection to the master on loopback. Only one thread may use it at a time."""

    def __init__(self, port: int, certificates: Path, *, timeout_s: float = 30.0) -> None:
        context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        context.load_cert_chain(certificates / "admin.crt", certificates / "admin.key")
        self._context, self._port, self._timeout_s = context, port, timeout_s
        self._connection: http.client.HTTPSConnection | None = None

    @property
    def port(self) -> int:
        return self._port

    def get(self, path: str) -> Any:
        return self.request("GET", path)

    def post(self, path: str, body: Any) -> Any:
        return self.request("POST", path, body)

    def delete(self, path: str, body: Any = None) -> Any:
        return self.request("DELETE", path, body)

    def patch(self, path: str, body: Any) -> Any:
        """Send a JSON merge patch and return the object."""
        return self.request("PATCH", path, body, "application/merge-patch+json")

    def find(self, path: str) -> Any:
        """Return the object, or None if it does not exist."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """Send a request and return the decoded answer.

        Raises ApiError if the answer is a Status of a failure, and LabctlError if no master answers.
        """
        payload = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", **({"Content-Type": content_type} if payload else {})}
        for attempt in (1, 2):
            try:
                if self._connection is None:
                    self._connection = self._connect(self._timeout_s)
                self._connection.request(method, path, payload, headers)
                response = self._connection.getresponse()
                data = response.read()
                break
            except (OSError, http.client.HTTPException) as error:
                self.close()
                # The master may have closed an idle connection: a read is tried again on a new one. A failure of a new one is reported, and so is
                # that of a write, which may have happened.
                if attempt == 2 or method not in ("GET",):
                    raise LabctlError(f"the lab's master does not answer on port {self._port}: {error}", mend="labctl up") from None
        return _decode(response.status, data)

    def watch(self, path: str, *, timeout_s: float) -> Iterator[dict[str, Any]]:
        """Yield watch events from a connection of its own. It ends without an error at the timeout or when the master ends."""
        connection = self._connect(timeout_s)
        try:
            connection.request("GET", path, headers={"Accept": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                _decode(response.status, response.read())
            while line := response.readline():
                yield json.loads(line)
        except (TimeoutError, http.client.HTTPException, OSError):
            return
        finally:
            connection.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self, timeout_s: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self._port, context=self._context, timeout=timeout_s)


def _decode(status: int, data: bytes) -> Any:
    try:
        body = json.loads(data) if data else None
    except ValueError:
        body = data.decode("utf-8", "replace")
    if status < 400:
        return body
    if isinstance(body, dict) and body.get("kind") == "Status":
        raise ApiError(status, body.get("reason", ""), body.get("message", ""), details=body.get("details"))
    raise ApiError(status, "Unknown", str(body)[:500])
