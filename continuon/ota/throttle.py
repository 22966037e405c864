"""How often somebody may ask: a token bucket for each name, in bounded memory."""

from __future__ import annotations

import ipaddress

import attrs

__all__ = ["Throttle", "network_of"]

_IPV6_PREFIX = 64


@attrs.define
class Throttle:
    """`burst` calls at once, then `per_minute`; at most `most` names are remembered.

    When more ask than are remembered, the one that asked longest ago is forgotten: a
    flood from many addresses costs memory for none of them.
    """

    burst: int = 30
    per_minute: float = 30.0
    most: int = 4096
    _levels: dict[str, tuple[float, int]] = attrs.field(factory=dict, init=False)

    def take(self, who: str, now_ns: int) -> float:
        """Return 0.0 where `who` may go on, else the seconds until it may."""
        level, before_ns = self._levels.pop(who, (float(self.burst), now_ns))
        passed_s = max(0, now_ns - before_ns) / 1e9
        level = min(float(self.burst), level + passed_s * self.per_minute / 60)
        wait_s = 0.0 if level >= 1 else (1 - level) * 60 / self.per_minute
        if len(self._levels) >= self.most:
            del self._levels[next(iter(self._levels))]
        self._levels[who] = (level - 1 if wait_s == 0 else level, now_ns)
        return wait_s


def network_of(address: str) -> str:
    """Return the address that counts: an IPv6 client owns a whole /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.ip_network(f"{address}/{_IPV6_PREFIX}", strict=False))
