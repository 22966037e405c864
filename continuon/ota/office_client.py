"""Talk to a grant office over HTTP(S): a robot for its grant, an owner for a robot."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import attrs
import msgspec

from continuon.errors import (
    ContinuonError,
    ContractError,
    DataError,
    MissingPackageError,
    TrustError,
    UsageError,
)

__all__ = ["OfficeClient"]

TIMEOUT_S = 20.0
_MAX_ANSWER_BYTES = 1 << 20
_FAMILIES: dict[str, type[ContinuonError]] = {
    kind.family: kind for kind in (TrustError, ContractError, DataError, UsageError)
}


@attrs.frozen
class OfficeClient:
    """An office at `url`; `token` is an owner's, a robot needs none."""

    url: str
    token: str | None = attrs.field(default=None, repr=False)

    def enrol(self, message: bytes) -> str:
        """Make a robot known; return the name that the office gave it."""
        return str(self._json("POST", "robots", message)["robot_id"])

    def grant(self, message: bytes) -> bytes:
        """Return the bytes of a grant for a robot's signed request."""
        return self._call("POST", "grants", message)

    def claim(self, robot_id: str, code: str) -> int:
        """Make the token's owner the robot's; return the owner epoch."""
        body = msgspec.json.encode({"code": code})
        path = f"robots/{quote(robot_id, safe='')}/claim"
        return int(self._json("POST", path, body)["owner_epoch"])

    def transfer(self, robot_id: str, new_owner: str) -> int:
        """Pass a robot on; return the new owner epoch."""
        body = msgspec.json.encode({"to": new_owner})
        path = f"robots/{quote(robot_id, safe='')}/transfer"
        return int(self._json("POST", path, body)["owner_epoch"])

    def describe(self, robot_id: str) -> dict[str, Any]:
        """Return what the owner may know of a robot."""
        return self._json("GET", f"robots/{quote(robot_id, safe='')}")

    def _json(self, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
        data = self._call(method, path, body)
        try:
            return msgspec.json.decode(data, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise self._unreadable(str(error)) from error

    def _call(self, method: str, path: str, body: bytes = b"") -> bytes:
        try:
            import urllib3
        except ImportError as error:
            raise MissingPackageError.for_extra(
                "urllib3", "ota", purpose="asking the grant office"
            ) from error
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        with urllib3.PoolManager() as pool:
            try:
                answer = pool.request(
                    method,
                    f"{self.url.rstrip('/')}/v1/{path}",
                    body=body,
                    headers=headers,
                    timeout=TIMEOUT_S,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                )
                data = answer.read(_MAX_ANSWER_BYTES + 1)
                status = answer.status
                answer.release_conn()
            except urllib3.exceptions.HTTPError as error:
                raise DataError(
                    "E-OTA-OFFICE-013",
                    "the grant office does not answer",
                    seen=error,
                    where=self.url,
                    hint="what runs goes on; ask again when the network is back",
                ) from error
        if status == 200 and len(data) <= _MAX_ANSWER_BYTES:
            return bytes(data)
        raise self._refusal(status, data)

    def _refusal(self, status: int, data: bytes) -> ContinuonError:
        """Return the office's own error, its code and reason verbatim."""
        try:
            facts = msgspec.json.decode(data, type=dict[str, Any])
            kind = _FAMILIES.get(facts.pop("family", ""), ContinuonError)
            code, what = str(facts.pop("code")), str(facts.pop("what"))
            names = ("where", "seen", "allowed", "hint", "exit_code")
            return kind(code, what, **{n: facts[n] for n in names if n in facts})
        except (msgspec.DecodeError, KeyError):
            return self._unreadable(f"HTTP status {status}")

    def _unreadable(self, seen: str) -> DataError:
        return DataError(
            "E-OTA-OFFICE-016",
            "the answer is no grant office's",
            seen=seen,
            where=self.url,
            hint="check the address",
        )
