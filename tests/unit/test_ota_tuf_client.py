"""What the public TUF conformance suite asks of a client, asked by us.

Every step runs python-tuf beside our command line; the two must end alike.
"""

import datetime as dt
import importlib
import json
import os
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("tuf")

from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile

tuf_world = importlib.import_module("continuon._specs.ota.tuf_world")
World, Client, TOP = tuf_world.World, tuf_world.Client, tuf_world.TOP

pytestmark = pytest.mark.req("R-OTA-11")
KEYS = tuf_world.make_signers(10)
YESTERDAY = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(days=1)


@pytest.fixture(scope="module")
def web():
    with tuf_world.serve() as found:
        yield found


@pytest.fixture
def start(web, tmp_path):
    """Return (world, client) after `init`; give `root` to begin elsewhere."""
    url, worlds = web

    def begin(*, root=0, status=0, **options):
        name = f"w{len(worlds)}"
        world = worlds[name] = World(**options)
        client = Client(f"{url}/{name}", tmp_path / name)
        data = root if isinstance(root, bytes) else world.served["root"][root]
        assert client.init(data) == status
        return world, client

    return begin


# -- refresh


def test_a_refresh_asks_for_each_role_once_and_keeps_its_bytes(start):
    world, client = start()
    world.served["timestamp"][-1] += b" \n"
    assert client.refresh() == 0
    assert world.requests == ["2.root", "timestamp", "1.snapshot", "1.targets"]
    for role in TOP:
        kept = (client.metadata / f"{role}.json").read_bytes()
        assert kept == world.served[role][-1]


def test_what_is_trusted_is_not_fetched_again(start):
    world, client = start()
    assert client.refresh() == 0
    world.requests.clear()
    assert client.refresh() == 0
    assert world.requests == ["2.root", "timestamp"]
    world.publish("root")
    world.requests.clear()
    assert client.refresh() == 0
    assert world.requests == ["2.root", "3.root", "timestamp"]


def test_init_asks_for_nothing_and_needs_no_network(start):
    world, _ = start()
    assert world.requests == []


@pytest.mark.req("R-OTA-21")
def test_init_again_forgets_nothing_that_guards_against_going_back(start):
    world, client = start()
    old = dict(world.served, timestamp=world.served["timestamp"][:1])
    world.release()
    world.publish("root")
    assert client.refresh() == 0
    before = client.trusted()
    assert client.init(world.served["root"][0]) == 0
    assert client.trusted() == before | {"root": 1}
    assert client.refresh() == 0
    assert client.trusted() == before
    assert client.init(world.served["root"][0]) == 0
    world.served["timestamp"] = old["timestamp"]
    assert client.refresh() == 1
    assert client.trusted() == before


def test_init_with_a_strangers_root_starts_afresh_on_the_strangers_repository(start):
    world, client = start()
    world.release()
    assert client.refresh() == 0
    other = World()
    assert client.init(other.served["root"][0]) == 0
    vars(world).update({name: vars(other)[name] for name in ("served", "files")})
    assert client.refresh() == 0
    assert client.trusted() == dict.fromkeys(TOP, 1)


@pytest.mark.parametrize("fault", ["no version", "bad signature", "no json", "empty"])
def test_a_root_that_is_not_sound_is_never_worked_with(start, fault):
    root = json.loads(World().served["root"][0])
    if fault == "no version":
        del root["signed"]["version"]
    else:
        root["signatures"][0]["sig"] = "30" * 64
    data = {"no json": b"{", "empty": b""}.get(fault, json.dumps(root).encode())
    world, client = start(root=data, status=1)
    assert client.refresh() == 1
    assert world.requests == []


@pytest.mark.parametrize(
    ("role", "trusted"),
    [
        ("root", {"root": 1}),
        ("timestamp", {"root": 2}),
        ("snapshot", {"root": 2, "timestamp": 2}),
        ("targets", {"root": 2, "timestamp": 2, "snapshot": 2}),
    ],
)
def test_an_unsigned_role_ends_the_refresh_where_it_stands(start, role, trusted):
    world, client = start()
    world.signers[role] = []
    world.publish(*TOP)
    assert client.refresh() == 1
    assert client.trusted() == trusted


@pytest.mark.parametrize(
    ("role", "trusted"),
    [
        ("root", {"root": 1}),
        ("snapshot", {"root": 2, "timestamp": 2}),
        ("targets", {"root": 2, "timestamp": 2, "snapshot": 2}),
    ],
)
def test_a_version_that_differs_from_its_name_is_refused(start, role, trusted):
    world, client = start()
    world.roles[role].version += 1
    world.publish(*TOP)
    assert client.refresh() == 1
    assert client.trusted() == trusted


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_missing_role_is_a_failure_and_what_came_before_it_stays(start, role):
    world, client = start()
    assert client.refresh() == 0
    if role == "timestamp":
        del world.served["timestamp"]
    elif role == "snapshot":
        world.roles["timestamp"].snapshot_meta.version += 1
        world.publish("timestamp")
    else:
        world.roles["snapshot"].meta["targets.json"].version += 1
        world.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    moved = {"timestamp": (1, 1), "snapshot": (2, 1), "targets": (2, 2)}[role]
    trusted = client.trusted()
    assert (trusted["timestamp"], trusted["snapshot"]) == moved
    assert trusted["targets"] == 1


def test_a_timestamp_of_the_same_version_with_other_content_is_not_taken(start):
    world, client = start()
    assert client.refresh() == 0
    world.roles["timestamp"].snapshot_meta.version = 100
    world.publish("timestamp", bump=False)
    assert client.refresh() == 0
    assert world.requests[-1] == "timestamp"
    kept = Metadata.from_file(str(client.metadata / "timestamp.json")).signed
    assert kept.snapshot_meta.version == 1


def test_metadata_of_another_type_is_refused_although_well_signed(start):
    world, client = start()
    world.root.add_key(world.signers["timestamp"][0].public_key, "snapshot")
    world.signers["snapshot"].append(world.signers["timestamp"][0])
    world.roles["snapshot"].meta = {"snapshot.json": MetaFile(1)}
    world.publish("root", "snapshot")
    world.served["timestamp"].append(world.served["snapshot"].pop())
    assert client.refresh() == 1
    assert client.trusted() == {"root": 2}


def test_unknown_fields_are_kept_and_covered_by_the_signature(start):
    world, client = start()
    world.root.unrecognized_fields["x-ours"] = {"a": [1, None, "ü"]}
    world.root.roles["root"].unrecognized_fields["more"] = "value"
    world.publish("root")
    assert client.refresh() == 0
    kept = json.loads((client.metadata / "root.json").read_bytes())
    assert kept["signed"]["x-ours"] == {"a": [1, None, "ü"]}
    world.publish("root")
    with world.alter("root") as root:
        root["signed"]["x-ours"] = "other"
    assert client.refresh() == 1
    assert client.trusted()["root"] == 2


@pytest.mark.parametrize("field", ["hashes", "length"])
@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_a_digest_or_length_that_is_listed_is_checked(start, role, field):
    world, client = start(with_hashes=True)
    assert client.refresh() == 0
    world.release()
    assert client.refresh() == 0
    lister = "timestamp" if role == "snapshot" else "snapshot"
    world.publish("targets", "snapshot")
    meta = (
        world.roles["timestamp"].snapshot_meta
        if role == "snapshot"
        else world.roles["snapshot"].meta["targets.json"]
    )
    if field == "hashes":
        meta.hashes["sha256"] = "46" * 32
    else:
        meta.length -= 1
    world.served[lister].pop()
    world.publish(lister, bump=False)
    if lister == "snapshot":
        world.publish("timestamp")
    else:
        world.served["timestamp"].append(world.served["timestamp"][-1])
        world.publish("timestamp")
    assert client.refresh() == 1
    assert client.trusted()[role] == 2


# -- keys

ROTATIONS = {
    # name: ((keys, threshold, signers)..., whether the last is accepted)
    "one key by one": (((1,), 1, (1,)), ((2,), 1, (2, 1)), ((2,), 1, (2,)), True),
    "signatures of strangers": (((1,), 1, (3, 1, 4)), ((2,), 1, (3, 2, 1, 4)),
                                ((2,), 1, (3, 2, 4)), True),
    "3 of 5, other three": (((0, 1, 2, 3, 4), 3, (0, 2, 4)),
                            ((0, 1, 2, 3, 4), 3, (0, 4, 1)),
                            ((0, 1, 2, 3, 4), 3, (0, 1, 3)),
                            ((0, 1, 2, 3, 4), 3, (0, 1, 3)), True),
    "3 of 5, one replaced by way of both": (((0, 1, 2, 3, 4), 3, (0, 2, 4)),
                                            ((0, 1, 3, 4, 5), 3, (0, 2, 4, 5)),
                                            ((0, 1, 3, 4, 5), 3, (0, 4, 5)), True),
    "3 of 5, one replaced": (((0, 1, 2, 3, 4), 3, (0, 2, 4)),
                             ((0, 1, 3, 4, 5), 3, (0, 4, 1)), True),
    "3 of 5, all replaced": (((0, 1, 2, 3, 4), 3, (0, 2, 4)),
                             ((5, 6, 7, 8, 9), 3, (0, 2, 4, 5, 6, 7)),
                             ((5, 6, 7, 8, 9), 3, (5, 6, 7)), True),
    "threshold up": (((1, 2, 3), 1, (1,)), ((1, 2, 3), 2, (1, 2)), True),
    "a key and a threshold more": (((1,), 1, (1,)), ((1, 2), 2, (1, 2)), True),
    "threshold down": (((1, 2, 3), 2, (1, 2)), ((1, 2, 3), 1, (1, 2)),
                       ((1, 2, 3), 1, (1,)), True),
    "not by the old": (((1,), 1, (1,)), ((2,), 1, (2, 3, 4)), False),
    "not by the new": (((1,), 1, (1,)), ((2,), 1, (1, 3, 4)), False),
    "too few of the new": (((0, 1, 2, 3, 4), 3, (0, 2, 4)),
                           ((0, 1, 3, 4, 5), 3, (0, 2, 4)), False),
    "too few of the old": (((0, 1, 2, 3, 4), 3, (0, 2, 4)),
                           ((0, 1, 3, 4, 5), 3, (0, 4, 5)), False),
    "new threshold missed": (((1, 2, 3), 1, (1,)), ((1, 2, 3), 2, (2,)), False),
    "old threshold missed": (((1, 2, 3), 2, (1, 2)), ((1, 2, 3), 1, (1,)), False),
}  # fmt: skip


@pytest.mark.parametrize("name", ROTATIONS)
def test_roots_are_followed_one_by_one_each_signed_by_old_and_new(start, name):
    *steps, accepted = ROTATIONS[name]
    world = World()
    world.served["root"].clear()
    world.root.version = 0
    for keys, threshold, signers in steps:
        world.keys_of(
            "root",
            [KEYS[i] for i in keys],
            [KEYS[i] for i in signers],
            threshold=threshold,
        )
        world.root.version += 1
        world.publish("root", bump=False)
    other, client = start(root=world.served["root"][0])
    vars(other).update(vars(world))
    assert client.refresh() == (0 if accepted else 1)
    last = world.served["root"][-1 if accepted else -2]
    assert (client.metadata / "root.json").read_bytes() == last


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize(
    ("keys", "threshold", "signers", "accepted"),
    [
        ((2,), 1, (2,), True),
        ((1,), 1, (3, 1, 4), True),
        ((2,), 1, (1, 3, 4), False),
        ((0, 1, 3, 4, 5), 3, (0, 2, 4), False),
        ((0, 1, 3, 4, 5), 3, (0, 4), False),
        ((0, 1, 2, 3, 4), 3, (4, 2, 3), True),
        ((0, 1, 2, 3, 4), 3, (0, 2, 4), True),
        ((0, 1, 2, 3, 4), 3, (0, 4, 1), True),
        ((0, 1, 2, 3, 4), 3, (0, 1, 3), True),
        ((0, 1, 2, 3, 4), 3, (1, 2, 3), True),
        ((0, 1), 3, (0, 1), False),
    ],
)
def test_a_role_needs_a_threshold_of_its_own_present_keys(
    start, role, keys, threshold, signers, accepted
):
    world, client = start()
    world.keys_of(
        role, [KEYS[i] for i in keys], [KEYS[i] for i in signers], threshold=threshold
    )
    world.publish(*TOP)
    assert client.refresh() == (0 if accepted else 1)
    assert (role in client.trusted()) is accepted
    assert client.trusted()["root"] == 2


def test_a_role_that_loses_one_of_its_needed_signatures_is_refused(start):
    world, client = start()
    world.keys_of("snapshot", KEYS[:3], KEYS[:3], threshold=3)
    world.publish(*TOP)
    assert client.refresh() == 0
    world.signers["snapshot"].pop()
    world.publish("targets", "snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.trusted()["snapshot"] == 2


def test_a_keys_hash_algorithms_of_older_times_mean_nothing(start):
    world, client = start()
    signer = tuf_world.make_signers(1)[0]
    signer.public_key.unrecognized_fields["keyid_hash_algorithms"] = "md5"
    world.keys_of("snapshot", [signer], [signer], threshold=1)
    world.publish("root", "snapshot", "timestamp")
    assert client.refresh() == 0
    assert client.trusted()["snapshot"] == 2


@pytest.mark.parametrize("copies", [1, 8])
def test_one_key_that_signs_many_times_is_one_or_no_vote(start, copies):
    world, client = start()
    world.root.roles["snapshot"].threshold = 1 + (copies > 1)
    world.publish(*TOP)
    with world.alter("snapshot") as snapshot:
        snapshot["signatures"] += snapshot["signatures"] * copies
    assert client.refresh() == 1
    assert "snapshot" not in client.trusted()


def test_a_key_id_that_a_role_lists_twice_makes_no_threshold(start):
    world, client = start()
    world.root.roles["snapshot"].keyids *= 3
    world.root.roles["snapshot"].threshold = 2
    world.publish("snapshot", "timestamp")
    world.publish("root")
    assert client.refresh() == 1
    assert "snapshot" not in client.trusted()


def test_one_wrong_signature_does_not_spoil_a_threshold_that_is_met(start):
    world, client = start()
    extra = tuf_world.make_signers(1)[0]
    world.root.add_key(extra.public_key, "timestamp")
    world.signers["timestamp"].append(extra)
    for text in ("ab" * 64, ""):
        world.publish("root", "timestamp")
        with world.alter("timestamp") as timestamp:
            timestamp["signatures"][-1]["sig"] = text
        assert client.refresh() == 0


KINDS = {
    "rsassa-pss-sha256": lambda: CryptoSigner.generate_rsa(
        scheme="rsassa-pss-sha256", size=2048
    ),
    "ecdsa-sha2-nistp256": CryptoSigner.generate_ecdsa,
    "ed25519": CryptoSigner.generate_ed25519,
}


@pytest.mark.parametrize("scheme", KINDS)
def test_each_kind_of_key_of_the_specification_signs_and_its_forgery_fails(
    start, scheme
):
    world, client = start()
    signer = KINDS[scheme]()
    assert signer.public_key.scheme == scheme
    world.root.add_key(signer.public_key, "root")
    world.root.roles["root"].threshold = 2
    world.signers["root"].append(signer)
    world.publish("root")
    assert client.refresh() == 0
    good = world.signers["root"][-1].sign(b"something else").signature
    world.publish("root")
    with world.alter("root") as root:
        root["signatures"][-1]["sig"] = good
    assert client.refresh() == 1
    assert client.trusted()["root"] == 2


# -- rollback and recovery


@pytest.mark.parametrize("with_hashes", [False, True])
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_no_role_goes_back(start, role, with_hashes):
    world, client = start(with_hashes=with_hashes)
    for _ in range(2):
        world.release()
    assert client.refresh() == 0
    before = client.trusted()
    world.roles[role].version = 1
    world.publish(role, bump=False)
    if role == "targets":
        world.publish("snapshot")
    if role != "timestamp":
        world.publish("timestamp")
    assert client.refresh() == 1
    assert client.trusted()[role] == before[role]


def test_a_snapshot_that_no_longer_lists_a_role_is_refused(start):
    world, client = start()
    world.delegate("targets", "one")
    world.release("one")
    assert client.refresh() == 0
    del world.roles["snapshot"].meta["one.json"]
    world.publish("snapshot", "timestamp")
    assert client.refresh() == 1


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_stolen_key_that_ran_versions_up_is_recovered_from_by_new_keys(start, role):
    world, client = start()
    world.roles[role].version = 99_999
    world.publish("targets", bump=False)
    world.served["targets"] += [world.served["targets"][-1]]
    names = {"timestamp": (), "snapshot": ("snapshot",), "targets": ("snapshot",)}
    world.publish(*names[role], "timestamp", bump=role == "targets")
    if role == "snapshot":
        world.served["snapshot"] = {99_999: world.served["snapshot"][-1]}
    if role == "targets":
        world.served["targets"] = {99_999: world.served["targets"][-1]}
    for name in ("snapshot", "targets"):
        if isinstance(world.served[name], dict):
            ((version, data),) = world.served[name].items()
            world.served[name] = Sparse({version: data})
    assert client.refresh() == 0
    assert client.trusted()[role] == 99_999
    for name in dict.fromkeys((*names[role], "timestamp")):
        world.rotate(name)
    world.publish("root")
    world.roles[role].version = 1
    if role != "timestamp":
        world.served[role] = []
        world.publish(role, bump=False)
    if role == "targets":
        world.publish("snapshot")
    world.publish("timestamp", bump=role != "timestamp")
    assert client.refresh() == 0
    assert client.trusted()[role] == 1


class Sparse(dict):
    """A list of versions with holes: index N - 1 is version N."""

    def __len__(self):
        return max(self, default=0)

    def __getitem__(self, index):
        return dict.__getitem__(self, index + 1 if index >= 0 else max(self))


# -- delegations

GRAPHS = {
    "one": ("A", "A"),
    "order": ("A B", "A B"),
    "depth first": ("A B A>C A>D", "A C D B"),
    "three deep": ("A B A>C C>D", "A C D B"),
    "terminating": ("A B A>C! A>D", "A C"),
    "terminating, its own go on": ("A B A>C! C>D", "A C D"),
    "another path": ("A:*.py B A>C", "B"),
    "another path below": ("A B A>C:*.py C>D", "A B"),
    "cycle": ("A B B>C C>D D>B", "A B C D"),
    "diamond": ("A B B>C A>C", "A C B"),
    "diamond with one side closed": ("A B B>C A>C:*.py", "A B C"),
    "a role that delegates to itself": ("A A>A", "A"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_delegations_are_walked_in_order_and_depth_first(start, name):
    edges, visited = GRAPHS[name]
    world, client = start()
    for word in edges.split():
        edge, _, paths = word.partition(":")
        parent, arrow, child = edge.partition(">")
        parent, child = (parent, child) if arrow else ("targets", parent)
        world.delegate(
            parent,
            child.rstrip("!"),
            [paths or "*"],
            terminating=child.endswith("!"),
        )
    world.release(*(set(world.roles) - set(TOP)))
    assert client.download("nowhere") == 1
    assert world.requests[4:] == [f"1.{role}" for role in visited.split()]


def test_a_role_that_two_delegate_must_satisfy_the_keys_of_the_one_asked(start):
    world, client = start()
    world.delegate("targets", "A", ["x/*"])
    world.delegate("targets", "B")
    world.delegate("A", "C", ["x/*"], signer=KEYS[0])
    world.delegate("B", "C", signer=KEYS[1])
    world.add("x/file", b"as A's", role="C")
    world.add("file", b"as B's", role="C")
    world.release("A", "B", "C")
    assert client.download("x/file", "file") == 1
    assert client.contents() == {b"as A's"}


@pytest.mark.parametrize(
    ("path", "owner"),
    [("top", "targets"), ("README.md", "A"), ("r/x/1", "C"), ("r/y/1.zip", "D"),
     ("r/z/1.zip", None), ("r/y/1.tar", None), ("a/README.md", None)],
)  # fmt: skip
def test_a_target_counts_only_where_every_role_above_it_may_list_it(start, path, owner):
    world, client = start()
    world.delegate("targets", "A", ["*.doc", "*.md"])
    world.delegate("targets", "B", ["r/*/*"])
    world.delegate("B", "C", ["r/x/*"])
    world.delegate("B", "D", ["r/y/*.zip"])
    world.add(path, b"content", role=owner or "D")
    world.release("A", "B", "C", "D")
    assert client.download(path) == (1 if owner is None else 0)
    assert client.contents() == (set() if owner is None else {b"content"})


def test_an_expired_delegated_role_is_not_believed(start):
    world, client = start()
    world.delegate("targets", "one").expires = YESTERDAY
    world.add("file", b"stale", role="one")
    world.release("one")
    assert client.refresh() == 0
    assert client.download("file") == 1
    assert client.contents() == set()
    assert "one" not in client.trusted()


# -- names


@pytest.mark.parametrize(
    "role", ["?", "#", "/role", "../role", "a b", "ünï✓", "%2F", "."]
)
def test_a_role_may_have_any_name_and_stays_in_its_directory(start, role):
    world, client = start()
    world.delegate("targets", role)
    world.release(role)
    assert client.download("nowhere") == 1
    assert world.requests[-1] == f"1.{tuf_world.role_path(role)}"
    assert len(client.trusted()) == 5
    strays = {path.name for path in client.folder.iterdir()}
    assert strays == {"metadata", "targets", "oracle", "initial_root.json"}


@pytest.mark.parametrize(
    "name",
    ["dir/sub/file.txt", "odd name%20.txt", "x" * 300, "a/../b", "..", "v1.0+build~1"],
)
def test_a_target_may_have_any_name_and_stays_in_its_directory(start, name):
    world, client = start()
    world.add(name, b"content")
    world.release()
    world.files[name.rpartition("/")[2]] = b"content"
    status = client.folder.parent
    before = set(status.rglob("*"))
    client.download(name)
    fresh = {path for path in set(status.rglob("*")) - before if path.is_file()}
    assert all(
        path.is_relative_to(client.folder / "oracle")
        or path.is_relative_to(client.metadata)
        or path.parent == client.targets
        for path in fresh
    )


# -- targets


@pytest.mark.parametrize("algorithms", [["sha256"], ["sha512"], ["sha256", "sha512"]])
def test_either_digest_will_do(start, algorithms):
    world, client = start()
    info = world.add("file.txt", b"content", algorithms=algorithms)
    world.release()
    assert client.download("file.txt") == 0
    assert client.contents() == {b"content"}
    asked = [item for item in world.requests if item.endswith("file.txt")]
    assert asked[0].partition(".")[0] in info.hashes.values()
    assert len(asked) == 1


def test_a_target_with_a_digest_of_an_unknown_kind_alone_is_refused(start):
    world, client = start()
    info = world.add("file.txt", b"content")
    info.hashes = {"unknown-hash": info.hashes["sha256"]}
    world.release()
    assert client.download("file.txt") == 1
    assert client.contents() == set()


def test_a_changed_target_takes_the_place_of_the_old_and_a_forged_one_does_not(start):
    world, client = start()
    for number in range(3):
        content = f"content {number}".encode()
        world.add("file.txt", content)
        world.release()
        assert client.download("file.txt") == 0
        assert client.contents() == {content}
        world.files["file.txt"] = b"forged"
        asked = len(world.requests)
        assert client.download("file.txt") == 0
        assert not [item for item in world.requests[asked:] if "file.txt" in item]
        assert client.contents() == {content}
    world.add("second", b"second")
    world.release()
    world.files["second"] = b"forged"
    assert client.download("second") == 1
    world.files["second"] = b"second!"
    assert client.download("second") == 1
    assert client.contents() == {b"content 2"}
    assert all(path.stat().st_size for path in client.targets.iterdir())


def test_several_targets_come_in_order_with_one_refresh_and_stop_at_the_first_fault(
    start,
):
    world, client = start()
    world.add("one", b"1")
    world.add("two", b"2")
    world.release()
    assert client.download("one", "missing", "two") == 1
    assert client.contents() == {b"1"}
    assert world.requests.count("timestamp") == 1
    assert client.download("two", "one") == 0
    assert client.contents() == {b"1", b"2"}


# -- time


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "root"])
def test_an_expired_role_is_not_taken_but_an_expired_root_is_kept(start, role):
    world, client = start()
    assert client.refresh() == 0
    world.roles[role].expires = YESTERDAY
    world.publish(*TOP)
    assert client.refresh() == 1
    order = ["root", "timestamp", "snapshot", "targets"]
    stopped = order.index(role)
    fresh = {name for name, version in client.trusted().items() if version == 2}
    kept = {"root"} if role == "root" else set(order[:stopped])
    assert fresh == kept
    world.roles[role].expires = world.expires
    world.publish(*TOP)
    assert client.refresh() == 0


PROGRAM = [sys.executable, "-c", "from continuon.cli import main; main()"]
FAKETIME = shutil.which("faketime")


def run_at(client, when, command, *names):
    """Run the installed program at another time, as a process of its own."""
    program = [*PROGRAM, "tuf"]
    return subprocess.run(
        [FAKETIME, str(when), *program, *client.arguments(command, *names)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )


@pytest.mark.slow
@pytest.mark.skipif(FAKETIME is None, reason="faketime is not installed")
def test_time_comes_from_the_system_and_old_trust_still_leads_to_new(start):
    world, client = start()
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    world.delegate("targets", "one").expires = now + dt.timedelta(days=7)
    world.roles["timestamp"].expires = now + dt.timedelta(days=7)
    world.add("first", b"first", role="one")
    world.add("second", b"second", role="one")
    world.release("one")
    assert client.download("first") == 0
    later = now + dt.timedelta(days=18)
    frozen = run_at(client, later, "refresh")
    assert (frozen.returncode, "Expired" in frozen.stderr) == (1, True)
    world.roles["timestamp"].expires = now + dt.timedelta(days=25)
    world.publish("timestamp")
    assert run_at(client, later, "refresh").returncode == 0
    assert run_at(client, later, "download", "second").returncode == 1
    world.roles["one"].expires = now + dt.timedelta(days=25)
    world.release("one")
    assert run_at(client, later, "download", "second").returncode == 0
    assert client.contents() == {b"first", b"second"}


@pytest.mark.slow
def test_the_program_ends_with_0_or_1_and_nothing_else(start):
    _, client = start()

    def status(*words):
        command = [*PROGRAM, "tuf", *words]
        return subprocess.run(command, check=False, capture_output=True).returncode

    assert status(*client.arguments("refresh")) == 0
    nowhere = [
        word.replace("/client/metadata/", "/client/nothing/")
        for word in client.arguments("refresh")
    ]
    assert status(*nowhere) == 1
    assert status("--metadata-dir", str(client.metadata), "dance") == 1
    assert status("--nonsense") == 1
    closed = ["--metadata-dir", str(client.metadata), "--metadata-url"]
    assert status(*closed, "http://127.0.0.1:9/metadata", "refresh") == 1


# -- any life

EVENTS = st.lists(
    st.sampled_from(
        ["release", "root", "rotate timestamp", "rotate snapshot", "rotate targets",
         "back timestamp", "back snapshot", "unsign targets", "expire snapshot",
         "hide", "delegate", "forge"]
    ),
    max_size=6,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.law
@given(events=EVENTS)
@settings(max_examples=12)
def test_in_any_life_of_a_repository_ours_ends_like_python_tuf(
    web, tmp_path_factory, events
):
    url, worlds = web
    name = f"w{len(worlds)}"
    world = worlds[name] = World()
    client = Client(f"{url}/{name}", tmp_path_factory.mktemp(name))
    assert client.init(world.served["root"][0]) == 0
    for event in events:
        what, _, role = event.partition(" ")
        if what == "rotate":
            world.rotate(role)
            world.publish(*TOP)
        elif what == "back":
            world.roles[role].version = max(1, world.roles[role].version - 2)
            world.publish(role, "timestamp", bump=False)
        elif what == "unsign":
            kept, world.signers[role] = world.signers[role], []
            world.release()
            world.signers[role] = kept
        elif what == "expire":
            kept, world.roles[role].expires = world.roles[role].expires, YESTERDAY
            world.release()
            world.roles[role].expires = kept
        elif what == "hide":
            world.served["snapshot"] = world.served["snapshot"][:-1]
        elif what == "delegate":
            world.delegate("targets", "one")
            world.add("file", b"content", role="one")
            world.release("one")
        elif what == "forge":
            world.files["file"] = b"CONTENT"
        else:
            world.publish("root") if what == "root" else world.release()
        client.download("file")
