"""A channel: the list of bundles on offer, itself a signed TUF target."""

from __future__ import annotations

import attrs

from continuon.bundle.canonical import canonical_json, parse_strict
from continuon.bundle.paths import check_relative_path, is_hex_digest
from continuon.bundle.structure import structure, unstructure
from continuon.errors import ContractError
from continuon.ota.record import Record
from continuon.ota.rollout import in_rollout

__all__ = [
    "Channel",
    "Offer",
    "channel_path",
    "dump_channel",
    "parse_channel",
    "reason_to_wait",
]

SCHEMA = "continuon.channel/1"
MAX_CHANNEL_BYTES = 1 << 20


@attrs.frozen(kw_only=True)
class Offer:
    """One bundle on offer. `target` is the TUF path of its `model.sig`.

    `rollout_percent` is the share of robots that may have it, by a hash of their id.
    """

    bundle: str
    model_name: str
    version: str
    release_counter: int
    total_bytes: int
    manifest_sha256: str
    target: str
    rollout_percent: float = 100.0
    halted: bool = False


@attrs.frozen(kw_only=True)
class Channel:
    """Everything on offer under one name, highest release counter last."""

    schema: str = SCHEMA
    name: str
    offers: tuple[Offer, ...] = ()

    def newest(
        self, model_name: str | None = None, *, robot_id: str | None = None
    ) -> Offer | None:
        """Return the newest offer that this robot may have by now.

        Halted offers are left out, and those of a rollout that has not come to this
        robot; one that has no id waits until everybody may have it.
        """
        fitting = [
            item
            for item in self.offers
            if not item.halted
            and model_name in {None, item.model_name}
            and _turn_has_come(item, robot_id)
        ]
        return max(fitting, key=lambda item: item.release_counter, default=None)


def _turn_has_come(offer: Offer, robot_id: str | None) -> bool:
    if offer.rollout_percent >= 100 or robot_id is None:
        return offer.rollout_percent >= 100
    return in_rollout(robot_id, offer.bundle, offer.rollout_percent)


def reason_to_wait(
    offer: Offer | None, record: Record, *, retry: bool = False
) -> str | None:
    """Return why the newest offer is nothing for a device, None if it is.

    A bundle that failed here is offered again with `retry` only.
    """
    if offer is None:
        return "nothing is on offer"
    if offer.bundle in record.roles:
        return "it is installed already"
    if offer.release_counter <= record.release_high:
        return f"release {record.release_high} was committed here"
    for failure in record.failed:
        if failure.bundle == offer.bundle and failure.counts and not retry:
            return f"it failed here: {failure.code}, {failure.reason}"
    return None


def channel_path(name: str) -> str:
    """Return the TUF target path of a channel; `NAME/CHANNEL` is a publisher's own."""
    publisher, _, rest = name.rpartition("/")
    return (
        f"publishers/{publisher}/channels/{rest}.json"
        if publisher
        else (f"channels/{name}.json")
    )


def parse_channel(data: bytes, *, where: str) -> Channel:
    """Return the channel that `data` spells.

    Raises:
        ContractError: E-BUNDLE-JSON-..., E-BUNDLE-MAN-..., E-OTA-CHANNEL-001.
    """
    value = parse_strict(data, where=where, max_bytes=MAX_CHANNEL_BYTES)
    channel = structure(value, Channel, where=where)
    for item in channel.offers:
        check_relative_path(item.target, where=where)
    ok = channel.schema == SCHEMA and all(
        is_hex_digest(item.bundle)
        and is_hex_digest(item.manifest_sha256)
        and item.release_counter >= 0
        and item.total_bytes >= 0
        and 0 <= item.rollout_percent <= 100
        for item in channel.offers
    )
    if not ok:
        raise ContractError(
            "E-OTA-CHANNEL-001", "the channel holds an illegal offer", where=where
        )
    return channel


def dump_channel(channel: Channel) -> bytes:
    """Return canonical bytes, offers sorted by release counter."""
    ordered = sorted(
        channel.offers, key=lambda item: (item.release_counter, item.bundle)
    )
    return canonical_json(unstructure(attrs.evolve(channel, offers=tuple(ordered))))
