"""Named attacks on a signed bundle, and the code that each must get.

An attack gets a fresh signed bundle and a `World` that holds the publisher's keys, an
attacker's key, and the threshold in force; what it leaves behind must be refused.
"""

# ruff: noqa: D103, ARG001 - each name is its sentence; all share one signature
from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from continuon.bundle.canonical import canonical_json
from continuon.bundle.envelope import Envelope, seal
from continuon.bundle.keys import SigningKey
from continuon.bundle.statement import PAYLOAD_TYPE, build_statement, dump_signature
from continuon.bundle.tree_io import hash_file, scan_tree

SIGNATURE = "model.sig"
MANIFEST = "edge_manifest.json"


@attrs.frozen
class World:
    """Who signs, who attacks. The verifier trusts `publishers` at `threshold`."""

    publishers: tuple[SigningKey, ...]
    attacker: SigningKey
    threshold: int


@attrs.frozen
class Attack:
    """One attack by name."""

    name: str
    code: str
    apply: Callable[[Path, World], None]


ATTACKS: list[Attack] = []


def attack(code: str) -> Callable[[Callable[[Path, World], None]], None]:
    """Register the decorated function under its own name."""

    def register(function: Callable[[Path, World], None]) -> None:
        ATTACKS.append(Attack(function.__name__, code, function))

    return register


def read_signature(bundle: Path) -> dict[str, Any]:
    """Return `model.sig` as a plain object."""
    value: dict[str, Any] = json.loads((bundle / SIGNATURE).read_bytes())
    return value


def write_signature(bundle: Path, value: dict[str, Any]) -> None:
    """Write a plain object as `model.sig`."""
    (bundle / SIGNATURE).write_bytes(canonical_json(value))


def edit_envelope(bundle: Path, **changes: Any) -> None:
    """Overwrite keys of the DSSE envelope."""
    value = read_signature(bundle)
    value["dsseEnvelope"].update(changes)
    write_signature(bundle, value)


def digests_of(bundle: Path) -> dict[str, str]:
    """Return the digests of all files but the signature."""
    paths = set(scan_tree(bundle)) - {SIGNATURE}
    return {path: hash_file(bundle / path) for path in sorted(paths)}


def sign_payload(bundle: Path, payload: bytes, keys: tuple[SigningKey, ...]) -> None:
    """Sign any payload with any keys, as a careless or hostile publisher would."""
    envelope = seal(payload, PAYLOAD_TYPE, keys)
    (bundle / SIGNATURE).write_bytes(dump_signature(envelope))


def resign(bundle: Path, world: World) -> None:
    """Sign what is there now with the publisher's own keys."""
    sign_payload(
        bundle, build_statement("policy", digests_of(bundle)), world.publishers
    )


def edit_statement(
    bundle: Path, world: World, change: Callable[[dict[str, Any]], None]
) -> None:
    """Change the statement and sign it with the publisher's own keys."""
    value = json.loads(build_statement("policy", digests_of(bundle)))
    change(value)
    sign_payload(bundle, json.dumps(value).encode(), world.publishers)


def edit_manifest(
    bundle: Path, world: World, change: Callable[[dict[str, Any]], None]
) -> None:
    """Change the manifest and sign the result with the publisher's own keys."""
    value = json.loads((bundle / MANIFEST).read_bytes())
    change(value)
    (bundle / MANIFEST).write_bytes(json.dumps(value).encode())
    resign(bundle, world)


# -- signatures


@attack("E-BUNDLE-SIG-001")
def signature_removed(bundle: Path, world: World) -> None:
    (bundle / SIGNATURE).unlink()


@attack("E-BUNDLE-SIG-002")
def signature_emptied(bundle: Path, world: World) -> None:
    (bundle / SIGNATURE).write_bytes(b"")


@attack("E-BUNDLE-SIG-004")
def signatures_dropped(bundle: Path, world: World) -> None:
    edit_envelope(bundle, signatures=[])


@attack("E-BUNDLE-SIG-004")
def one_signature_below_threshold(bundle: Path, world: World) -> None:
    envelope = read_signature(bundle)["dsseEnvelope"]
    edit_envelope(bundle, signatures=envelope["signatures"][:1])


@attack("E-BUNDLE-SIG-004")
def one_key_counted_twice(bundle: Path, world: World) -> None:
    first = read_signature(bundle)["dsseEnvelope"]["signatures"][0]
    edit_envelope(bundle, signatures=[first, first])


@attack("E-BUNDLE-SIG-004")
def signed_by_a_stranger(bundle: Path, world: World) -> None:
    payload = build_statement("policy", digests_of(bundle))
    sign_payload(bundle, payload, (world.attacker,))


@attack("E-BUNDLE-SIG-005")
def signature_under_a_trusted_name(bundle: Path, world: World) -> None:
    payload = build_statement("policy", digests_of(bundle))
    forged = world.attacker.sign(Envelope(PAYLOAD_TYPE, payload, ()).message)
    name = world.publishers[0].public.fingerprint
    envelope = Envelope(PAYLOAD_TYPE, payload, ((name, forged),))
    (bundle / SIGNATURE).write_bytes(dump_signature(envelope))


@attack("E-BUNDLE-SIG-005")
def payload_swapped_under_the_signatures(bundle: Path, world: World) -> None:
    payload = build_statement("policy", {"policy.tflite": "0" * 64})
    edit_envelope(bundle, payload=base64.b64encode(payload).decode())


@attack("E-BUNDLE-SIG-003")
def payload_type_changed(bundle: Path, world: World) -> None:
    edit_envelope(bundle, payloadType="text/plain")


@attack("E-BUNDLE-SIG-003")
def grant_passed_off_as_a_bundle(bundle: Path, world: World) -> None:
    kind = "application/vnd.continuon.grant+json"
    payload = build_statement("policy", digests_of(bundle))
    envelope = seal(payload, kind, world.publishers)
    (bundle / SIGNATURE).write_bytes(dump_signature(envelope))


@attack("E-BUNDLE-SIG-003")
def media_type_changed(bundle: Path, world: World) -> None:
    value = read_signature(bundle)
    value["mediaType"] = "application/json"
    write_signature(bundle, value)


@attack("E-BUNDLE-SIG-002")
def base64_with_stray_bits(bundle: Path, world: World) -> None:
    signatures = read_signature(bundle)["dsseEnvelope"]["signatures"]
    signatures[1]["sig"] = signatures[1]["sig"].rstrip("=")
    edit_envelope(bundle, signatures=signatures)


@attack("E-BUNDLE-SIG-002")
def envelope_with_a_duplicate_key(bundle: Path, world: World) -> None:
    data = (bundle / SIGNATURE).read_bytes()
    (bundle / SIGNATURE).write_bytes(b'{"mediaType":"x",' + data[1:])


@attack("E-BUNDLE-SIG-002")
def envelope_with_an_unknown_key(bundle: Path, world: World) -> None:
    edit_envelope(bundle, verified=True)


@attack("E-BUNDLE-SIG-002")
def hint_of_another_key(bundle: Path, world: World) -> None:
    value = read_signature(bundle)
    hint = world.attacker.public.fingerprint
    value["verificationMaterial"]["publicKey"]["hint"] = hint
    write_signature(bundle, value)


@attack("E-BUNDLE-SIG-011")
def flood_of_signatures(bundle: Path, world: World) -> None:
    first = read_signature(bundle)["dsseEnvelope"]["signatures"][0]
    edit_envelope(bundle, signatures=[first] * 1000)


@attack("E-BUNDLE-SET-007")
def signature_file_without_end(bundle: Path, world: World) -> None:
    with (bundle / SIGNATURE).open("r+b") as file:
        file.truncate(1 << 30)


# -- the statement


@attack("E-BUNDLE-SIG-006")
def another_predicate(bundle: Path, world: World) -> None:
    edit_statement(
        bundle, world, lambda value: value.update(predicateType="https://x/y")
    )


@attack("E-BUNDLE-SIG-007")
def symlinks_allowed_by_the_statement(bundle: Path, world: World) -> None:
    def change(value: dict[str, Any]) -> None:
        value["predicate"]["serialization"]["allow_symlinks"] = True

    edit_statement(bundle, world, change)


@attack("E-BUNDLE-SIG-007")
def file_ignored_by_the_statement(bundle: Path, world: World) -> None:
    def change(value: dict[str, Any]) -> None:
        value["predicate"]["serialization"]["ignore_paths"] = ["policy.tflite"]

    edit_statement(bundle, world, change)


@attack("E-BUNDLE-SIG-008")
def name_that_leaves_the_directory(bundle: Path, world: World) -> None:
    def change(value: dict[str, Any]) -> None:
        value["predicate"]["resources"][0]["name"] = "../edge_manifest.json"

    edit_statement(bundle, world, change)


@attack("E-BUNDLE-SIG-008")
def name_listed_twice(bundle: Path, world: World) -> None:
    def change(value: dict[str, Any]) -> None:
        resources = value["predicate"]["resources"]
        resources.insert(0, dict(resources[0]))

    edit_statement(bundle, world, change)


@attack("E-BUNDLE-SIG-008")
def names_out_of_order(bundle: Path, world: World) -> None:
    edit_statement(
        bundle, world, lambda value: value["predicate"]["resources"].reverse()
    )


@attack("E-BUNDLE-SIG-008")
def names_that_differ_by_case(bundle: Path, world: World) -> None:
    def change(value: dict[str, Any]) -> None:
        resources = value["predicate"]["resources"]
        resources.insert(0, {**resources[0], "name": resources[0]["name"].upper()})

    edit_statement(bundle, world, change)


@attack("E-BUNDLE-SIG-009")
def weak_digest_algorithm(bundle: Path, world: World) -> None:
    def change(value: dict[str, Any]) -> None:
        value["predicate"]["resources"][0]["algorithm"] = "md5"

    edit_statement(bundle, world, change)


@attack("E-BUNDLE-SIG-009")
def empty_digest(bundle: Path, world: World) -> None:
    def change(value: dict[str, Any]) -> None:
        value["predicate"]["resources"][0]["digest"] = ""

    edit_statement(bundle, world, change)


@attack("E-BUNDLE-SIG-010")
def subject_of_another_bundle(bundle: Path, world: World) -> None:
    def change(value: dict[str, Any]) -> None:
        value["subject"][0]["digest"]["sha256"] = "0" * 64

    edit_statement(bundle, world, change)


# -- the set of files


@attack("E-BUNDLE-SET-001")
def unsigned_file_added(bundle: Path, world: World) -> None:
    (bundle / "extra.bin").write_bytes(b"x")


@attack("E-BUNDLE-SET-001")
def unsigned_file_under_git(bundle: Path, world: World) -> None:
    (bundle / ".git").mkdir()
    (bundle / ".git" / "hooks").write_bytes(b"x")


@attack("E-BUNDLE-SET-001")
def unsigned_gitignore(bundle: Path, world: World) -> None:
    (bundle / ".gitignore").write_bytes(b"*")


@attack("E-BUNDLE-SET-002")
def file_removed(bundle: Path, world: World) -> None:
    (bundle / "policy.tflite").unlink()


@attack("E-BUNDLE-SET-003")
def bytes_changed_same_size(bundle: Path, world: World) -> None:
    path = bundle / "policy.tflite"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


@attack("E-BUNDLE-SET-007")
def file_truncated(bundle: Path, world: World) -> None:
    path = bundle / "policy.tflite"
    path.write_bytes(path.read_bytes()[:-1])


@attack("E-BUNDLE-SET-003")
def manifest_changed(bundle: Path, world: World) -> None:
    path = bundle / MANIFEST
    path.write_bytes(path.read_bytes().replace(b"simulated", b"imported!"))


@attack("E-BUNDLE-SET-003")
def files_swapped(bundle: Path, world: World) -> None:
    one, two = bundle / "golden.json", bundle / "spec.json"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


@attack("E-BUNDLE-SET-004")
def pipe_in_place_of_a_file(bundle: Path, world: World) -> None:
    (bundle / "spec.json").unlink()
    os.mkfifo(bundle / "spec.json")


@attack("E-BUNDLE-SET-005")
def link_in_place_of_a_file(bundle: Path, world: World) -> None:
    path = bundle / "spec.json"
    outside = bundle.parent / "outside.json"
    path.rename(outside)
    path.symlink_to(outside)


@attack("E-BUNDLE-SET-005")
def link_in_place_of_a_directory(bundle: Path, world: World) -> None:
    (bundle / "evidence").rename(bundle.parent / "evidence-elsewhere")
    (bundle / "evidence").symlink_to(bundle.parent / "evidence-elsewhere")


@attack("E-BUNDLE-SET-006")
def empty_directory_added(bundle: Path, world: World) -> None:
    (bundle / "cache").mkdir()


@attack("E-BUNDLE-SET-009")
def set_user_id_bit(bundle: Path, world: World) -> None:
    (bundle / "policy.tflite").chmod(0o4755)


@attack("E-BUNDLE-SET-009")
def world_writable_file(bundle: Path, world: World) -> None:
    (bundle / "policy.tflite").chmod(0o666)


@attack("E-BUNDLE-SET-011")
def directories_without_end(bundle: Path, world: World) -> None:
    path = bundle.joinpath(*["d"] * 12)
    path.mkdir(parents=True)
    (path / "x").write_bytes(b"x")


# -- a publisher's own mistakes, signed all the same


@attack("E-BUNDLE-SET-008")
def signed_file_that_the_manifest_omits(bundle: Path, world: World) -> None:
    (bundle / "extra.bin").write_bytes(b"x")
    resign(bundle, world)


@attack("E-BUNDLE-SET-008")
def manifest_not_covered_by_the_signature(bundle: Path, world: World) -> None:
    (bundle / MANIFEST).unlink()
    resign(bundle, world)


@attack("E-BUNDLE-MAN-008")
def placeholder_as_the_backend(bundle: Path, world: World) -> None:
    def change(value: dict[str, Any]) -> None:
        value["backends"][0].update(name="hailo", artifact="policy.hef.json")

    edit_manifest(bundle, world, change)


@attack("E-BUNDLE-HEF-002")
def loadable_bytes_as_a_placeholder(bundle: Path, world: World) -> None:
    path = bundle / "policy.hef.json"
    path.write_bytes(b"\x01HEF" + b"\0" * 60)

    def change(value: dict[str, Any]) -> None:
        for artifact in value["artifacts"]:
            if artifact["path"] == path.name:
                artifact.update(bytes=64, sha256=hash_file(path))

    edit_manifest(bundle, world, change)


@attack("E-BUNDLE-MAN-002")
def unknown_manifest_key(bundle: Path, world: World) -> None:
    edit_manifest(bundle, world, lambda value: value.update(skip_checks=True))


@attack("E-BUNDLE-MAN-010")
def origin_left_out(bundle: Path, world: World) -> None:
    edit_manifest(bundle, world, lambda value: value.update(origins=[]))


@attack("E-BUNDLE-VER-001")
def version_with_a_v(bundle: Path, world: World) -> None:
    edit_manifest(bundle, world, lambda value: value.update(version="v2.0.0"))
