"""Who may use the API: the handlers that pair clients, list them and turn them away."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from continuon.robot.access import CODE_TTL_NS, Access, Role
from continuon.robot.api_bodies import (
    PairBody,
    PairingBody,
    RevokeBody,
    read_body,
)
from continuon.robot.token_store import TokenStore

__all__ = ["ClientsApi", "answer_json"]


class ClientsApi:
    """Handlers on the store of tokens."""

    _tokens: TokenStore

    async def pair(self, request: Request, _access: Access) -> Response:
        """Exchange a code for a token."""
        body = await read_body(request, PairBody)
        secret, role = await asyncio.to_thread(self._tokens.pair, body.code, body.name)
        return answer_json({"token": secret, "role": role.name.lower()})

    async def open_pairing(self, request: Request, _access: Access) -> Response:
        """Show a code that another client pairs with."""
        role = Role[(await read_body(request, PairingBody)).role.upper()]
        window = self._tokens.open_window(role)
        told = {"code": window.code, "role": role.name.lower()}
        return answer_json(told | {"for_s": CODE_TTL_NS / 1e9})

    async def whoami(self, _request: Request, access: Access) -> Response:
        """Say who asks, and what they may."""
        paired = bool(self._tokens.tokens)
        role = access.role.name.lower()
        body = {"role": role, "name": access.name, "paired": paired}
        return answer_json(body | ({"reason": access.reason} if access.reason else {}))

    async def clients(self, _request: Request, _access: Access) -> Response:
        """List who is paired; a token itself is told to its client only, once."""
        told = [
            {
                "client": token.client,
                "name": token.name,
                "role": token.role.name.lower(),
                "created_wall_ns": token.created_wall_ns,
            }
            for token in self._tokens.tokens
        ]
        return answer_json({"clients": told})

    async def revoke(self, request: Request, _access: Access) -> Response:
        """Turn a client away for good."""
        body = await read_body(request, RevokeBody)
        gone = await asyncio.to_thread(self._tokens.revoke, body.client)
        left = len(self._tokens.tokens)
        return answer_json({"client": gone.client, "name": gone.name, "left": left})


def answer_json(body: Any, status: int = 200) -> Response:
    """Return a JSON answer."""
    data = msgspec.json.encode(body)
    return Response(data, status, media_type="application/json")
