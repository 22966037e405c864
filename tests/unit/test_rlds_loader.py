"""Loading for training: windows by index, an order without memory, exact resume."""

import json
from itertools import chain

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon._specs.episode.drafts import legal_draft, legal_metadata, write_draft
from continuon.errors import ContractError, DataError, UsageError
from continuon.rlds.grain_source import grain_dataset
from continuon.rlds.images import (
    decode_colour,
    decode_colour_small,
    decode_depth_png,
    decode_jpeg,
    encode_colour_png,
    encode_depth_png,
    encode_jpeg,
    policy_image,
)
from continuon.rlds.loader import Loader, LoaderState
from continuon.rlds.picture_columns import decode_colours, decode_depths
from continuon.rlds.shuffle import shuffled
from continuon.rlds.step_store import LogStore, open_store
from continuon.rlds.steps import read_steps
from continuon.rlds.tfds_index import INDEX_FILE, index_of
from continuon.rlds.tfds_write import convert
from continuon.rlds.windows import open_windows, windows

ORDER_OF_SEED_7 = [2, 1, 0, 10, 4, 11, 9, 7, 5, 8, 6, 3]
NUMBERS = ("observation/state", "action", "observation/stamp_ns", "is_first", "valid")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three episodes of 5, 8 and 3 steps, as recordings and as a TFDS directory."""
    folder = tmp_path_factory.mktemp("loader")
    (folder / "log").mkdir()
    for name, steps in (("a", 5), ("b", 8), ("c", 3)):
        metadata = legal_metadata(episode_id=name, start_wall_ns=ord(name), task=name)
        write_draft(attrs.evolve(legal_draft(steps), metadata=metadata), folder / "log")
    convert(folder / "log", folder / "tfds")
    convert(folder / "log", folder / "raw", depth="raw")
    return folder


@pytest.fixture(params=["log", "tfds", "raw"])
def store(data, request):
    return open_store(data / request.param)


def truth(data):
    return list(read_steps(data / "log"))


@pytest.mark.req("R-EPISODE-80")
@pytest.mark.parametrize("length", [1, 2, 3])
def test_every_window_is_those_steps_of_its_episode(data, store, length):
    source = windows(store, length=length)
    episodes = truth(data)
    assert len(source) == sum(max(len(e) - length + 1, 0) for e in episodes)
    for index in range(len(source)):
        window = source[index]
        number, start = source.where(index)
        steps, rows = episodes[number], slice(start, start + length)
        assert set(window) >= {"observation/image", "observation/depth", *NUMBERS}
        np.testing.assert_array_equal(window["action"], steps.action[rows])
        np.testing.assert_array_equal(window["observation/state"], steps.state[rows])
        np.testing.assert_array_equal(
            window["observation/stamp_ns"], steps.stamp_ns[rows]
        )
        np.testing.assert_array_equal(
            window["skew_ns/state"], steps.skew_ns["state"][rows]
        )
        for step in range(length):
            image, depth = steps.image[start + step], steps.depth[start + step]
            np.testing.assert_array_equal(
                window["observation/image"][step], decode_jpeg(image)
            )
            np.testing.assert_array_equal(
                window["observation/depth"][step, ..., 0], decode_depth_png(depth)
            )
        assert window["language_instruction"] == [steps.metadata.task.encode()] * length


@pytest.mark.req("R-EPISODE-80")
def test_no_window_crosses_an_end_unless_asked(store):
    inside = windows(store, length=3, columns=("is_first",))
    assert not any(inside[i]["is_first"][1:].any() for i in range(len(inside)))
    across = windows(store, length=3, columns=("is_first",), across_ends=True)
    assert len(across) == 16 - 3 + 1
    assert any(across[i]["is_first"][1:].any() for i in range(len(across)))
    four = windows(store, length=16, columns=NUMBERS, across_ends=True)
    assert np.flatnonzero(four[0]["is_first"]).tolist() == [0, 5, 13]
    room = four.blank(1)
    four.fill(0, room, 0)
    for name in NUMBERS:
        np.testing.assert_array_equal(room[name][0], four[0][name])


@pytest.mark.req("R-EPISODE-81")
def test_only_the_columns_asked_for_are_read(data, monkeypatch):
    def refuse(*_, **__):
        pytest.fail("a picture was decoded")

    monkeypatch.setattr("continuon.rlds.picture_columns.decode_colour_into", refuse)
    monkeypatch.setattr("continuon.rlds.picture_columns.decode_depth", refuse)
    for where in ("log", "tfds"):
        source = open_windows(data / where, length=2, columns=("action", "valid"))
        assert set(source[0]) == {"action", "valid"}
    with pytest.raises(UsageError, match="STORE-003"):
        open_windows(data / "tfds", length=2, columns=("no/such",))


@pytest.mark.req("R-EPISODE-80")
def test_windows_with_a_masked_step_can_be_left_out(tmp_path):
    draft = legal_draft(6)
    actions = [row for row in draft.samples["action"] if row[0] < 1_080_000_000]
    samples = {**draft.samples, "action": tuple(actions)}
    (tmp_path / "log").mkdir()
    write_draft(
        attrs.evolve(
            legal_draft(40),
            samples=samples
            | {
                "rgb": legal_draft(40).samples["rgb"],
                "depth": legal_draft(40).samples["depth"],
                "state": legal_draft(40).samples["state"],
            },
        ),
        tmp_path / "log",
    )
    (steps,) = read_steps(tmp_path / "log")
    assert 0 < steps.valid.sum() < 40
    kept = open_windows(tmp_path / "log", length=2, columns=("valid",), only_valid=True)
    expected = np.flatnonzero(steps.valid[:-1] & steps.valid[1:]).tolist()
    assert [kept.where(i)[1] for i in range(len(kept))] == expected


@pytest.mark.req("R-EPISODE-80")
@pytest.mark.parametrize(
    ("options", "code"),
    [({"length": 0}, "WINDOW-001"), ({"length": 2, "stride": 0}, "WINDOW-001")],
)
def test_windows_that_cannot_be_are_refused(store, options, code):
    with pytest.raises(UsageError, match=code):
        windows(store, **options)
    with pytest.raises(DataError, match="WINDOW-002"):
        windows(store, length=9)
    with pytest.raises(IndexError):
        windows(store, length=8, columns=())[1]


@pytest.mark.law
@pytest.mark.req("R-EPISODE-82")
@given(count=st.integers(1, 3000), seed=st.integers(0, 99), epoch=st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_the_shuffled_order_is_a_permutation_at_any_size(count, seed, epoch):
    order = shuffled(np.arange(count), count, seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(count))
    some = np.arange(0, count, 7)
    np.testing.assert_array_equal(
        shuffled(some, count, seed=seed, epoch=epoch), order[some]
    )


@pytest.mark.req("R-EPISODE-82")
def test_the_order_is_the_same_on_every_machine_and_another_each_epoch():
    order = shuffled(np.arange(12), 12, seed=7).tolist()
    assert order == shuffled(np.arange(12), 12, seed=7).tolist()
    assert order == ORDER_OF_SEED_7
    orders = {tuple(shuffled(np.arange(99), 99, seed=7, epoch=e)) for e in range(20)}
    assert len(orders) == 20
    far = shuffled(np.array([10**12 - 1]), 10**12, seed=1)
    assert 0 <= far[0] < 10**12
    with pytest.raises(ContractError, match="SHUFFLE-001"):
        shuffled(np.array([5]), 5, seed=0)


def test_places_spread_evenly_over_the_order():
    moved = shuffled(np.arange(20_000), 20_000, seed=3) / 20_000
    assert abs(np.corrcoef(np.arange(20_000), moved)[0, 1]) < 0.03
    assert np.histogram(moved[:2000], 10)[0].min() > 140


def picked(loader, count):
    return [loader.indices(batch) for batch in range(count)]


def plain(batches):
    return [
        {k: v if isinstance(v, list) else v.tolist() for k, v in batch.items()}
        for batch in batches
    ]


@pytest.mark.req("R-EPISODE-83")
@pytest.mark.parametrize("threads", [0, 3])
def test_a_loader_goes_on_exactly_where_its_state_says(store, threads):
    source = windows(store, length=2, columns=("action", "observation/stamp_ns"))

    def fresh():
        return Loader(source, batch_size=3, seed=5, epochs=3, threads=threads)

    whole = plain(fresh())
    assert len(whole) == 3 * fresh().batches_per_epoch
    for cut in (0, 1, len(whole) - 1):
        first = fresh()
        stream = iter(first)
        begun = [next(stream) for _ in range(cut)]
        stream.close()
        kept = json.loads(json.dumps(first.state().as_dict()))
        second = fresh()
        second.restore(LoaderState.from_dict(kept))
        assert plain(begun) + plain(second) == whole


@pytest.mark.req("R-EPISODE-83")
def test_the_state_of_another_loader_is_refused(store):
    source = windows(store, length=2, columns=("action",))
    state = Loader(source, batch_size=2, seed=1).state()
    for other in (
        Loader(source, batch_size=2, seed=2),
        Loader(source, batch_size=3, seed=1),
        Loader(windows(store, length=3, columns=("action",)), batch_size=2, seed=1),
    ):
        with pytest.raises(ContractError, match="LOADER-003"):
            other.restore(state)


@pytest.mark.law
@pytest.mark.req("R-EPISODE-84")
@given(
    count=st.integers(8, 200),
    hosts=st.integers(1, 4),
    batch=st.integers(1, 3),
    seed=st.integers(0, 9),
    shuffle=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_hosts_see_each_window_at_most_once_and_stay_in_step(
    count, hosts, batch, seed, shuffle
):
    class Windows:
        def __len__(self):
            return count

        def fingerprint(self):
            return "x"

    if count < hosts * batch:
        return
    shares = []
    for host in range(hosts):
        loader = Loader(
            Windows(),
            batch_size=batch,
            seed=seed,
            shuffle=shuffle,
            host=host,
            hosts=hosts,
        )
        shares.append(list(chain(*picked(loader, loader.batches_per_epoch))))
    assert len({len(share) for share in shares}) == 1
    seen = list(chain(*shares))
    assert len(set(seen)) == len(seen)
    assert count - len(seen) < hosts * batch
    if not shuffle:
        assert sorted(seen) == list(range(len(seen)))


@pytest.mark.req("R-EPISODE-83")
@pytest.mark.parametrize("threads", [0, 2])
def test_reused_arrays_hold_the_same_batches(store, threads):
    source = windows(store, length=2)
    options = {"batch_size": 2, "epochs": 2, "threads": threads}
    reused = Loader(source, reuse=True, **options)
    for one, two in zip(Loader(source, **options), reused, strict=True):
        for name, values in one.items():
            np.testing.assert_array_equal(two[name], values)


def test_impossible_loaders_are_refused(store):
    source = windows(store, length=2, columns=("action",))
    for options in (
        {"batch_size": 0},
        {"batch_size": 1, "host": 2, "hosts": 2},
        {"batch_size": 1, "threads": -1},
        {"batch_size": 100},
    ):
        with pytest.raises(UsageError, match="LOADER-00"):
            Loader(source, **options)


@pytest.mark.req("R-EPISODE-85")
def test_the_index_is_written_by_convert_and_rebuilt_where_it_does_not_fit(
    data, tmp_path
):
    (stored,) = (data / "tfds").rglob(INDEX_FILE)
    folder = stored.parent
    kept = index_of(folder)
    built = index_of(folder, verify=True)
    for path, table in built.blobs.items():
        np.testing.assert_array_equal(kept.blobs[path], table)
    whole = stored.read_bytes()
    try:
        for damage in (b"", whole[:-8], whole[:200] + b"\0" + whole[201:]):
            stored.write_bytes(damage)
            again = index_of(folder)
            np.testing.assert_array_equal(again.steps, built.steps)
            assert stored.read_bytes() == damage
    finally:
        stored.write_bytes(whole)


@pytest.mark.req("R-EPISODE-85")
def test_the_index_of_the_same_data_is_the_same_bytes(data, tmp_path):
    convert(data / "log", tmp_path)
    (one,), (two,) = ((d.rglob(INDEX_FILE)) for d in (data / "tfds", tmp_path))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.req("R-EPISODE-85")
def test_a_compressed_directory_is_refused_with_what_to_do(data, tmp_path):
    convert(data / "log", tmp_path, compress=True)
    with pytest.raises(DataError, match=r"INDEX-001.*--compress"):
        open_store(tmp_path)


@pytest.mark.req("R-EPISODE-85")
def test_a_flipped_byte_in_a_shard_is_found_by_verify(data, tmp_path):
    convert(data / "log", tmp_path)
    (shard,) = tmp_path.rglob("*tfrecord-*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match="TFRECORD-003"):
        index_of(shard.parent, verify=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_grain_takes_the_windows_as_they_are(store):
    pytest.importorskip("grain", reason="grain (the train extra) is not installed")
    source = windows(store, length=2, columns=("action", "observation/stamp_ns"))
    batches = [
        list(grain_dataset(source, batch_size=2, host=h, hosts=2)) for h in (0, 1)
    ]
    seen = [
        tuple(t) for b in chain(*batches) for t in b["observation/stamp_ns"].tolist()
    ]
    assert len(seen) == len(source) // 4 * 4
    assert batches[0][0]["action"].shape == (2, 2, 2)


@pytest.mark.req("R-EPISODE-86")
def test_small_pictures_are_means_of_colour_and_measured_counts_of_depth(data, store):
    folder = data / ("log" if isinstance(store, LogStore) else "tfds")
    small = open_windows(folder, length=2, picture_size=(6, 8))
    whole = windows(store, length=2)
    assert small.fingerprint() != whole.fingerprint()
    room = small.blank(1)
    for index in range(len(small)):
        small.fill(index, room, 0)
        got, full = small[index], whole[index]
        for name in ("observation/image", "observation/depth"):
            np.testing.assert_array_equal(room[name][0], got[name])
        colour = [policy_image(p, height=6, width=8) for p in full["observation/image"]]
        off = got["observation/image"].astype(int) - np.stack(colour)
        assert np.abs(off).max() <= 4
        np.testing.assert_array_equal(
            got["observation/depth"], full["observation/depth"][:, 1::2, 1::2]
        )
        np.testing.assert_array_equal(got["action"], full["action"])


@pytest.mark.req("R-EPISODE-86")
@pytest.mark.parametrize("size", [(40, 30), (12, 16), (5, 7), (9, 16)])
def test_a_small_picture_of_any_ratio_is_near_the_mean_of_the_whole(size):
    rows, columns = np.mgrid[:24, :32]
    rgb = np.stack((rows * 8, columns * 6, rows * 2 + columns), -1).astype(np.uint8)
    height, width = size
    for blob, off in ((encode_jpeg(rgb, 95), 6), (encode_colour_png(rgb), 0)):
        wanted = policy_image(decode_colour(blob), height=height, width=width)
        small = decode_colour_small(blob, height=height, width=width).astype(int)
        assert small.shape == (height, width, 3)
        assert np.abs(small - wanted).max() <= off


@pytest.mark.req("R-EPISODE-86")
def test_a_picture_size_below_one_pixel_is_refused(data):
    with pytest.raises(UsageError, match="E-RLDS-STORE-004"):
        open_store(data / "tfds", picture_size=(0, 8))


@pytest.mark.req("R-EPISODE-86")
def test_small_pictures_of_two_sizes_are_still_refused():
    blobs = [encode_jpeg(np.zeros((s, s, 3), np.uint8)) for s in (8, 16)]
    with pytest.raises(DataError, match="E-RLDS-STORE-002"):
        decode_colours(blobs, size=(4, 4))
    depths = [encode_depth_png(np.zeros((s, s), np.uint16)) for s in (8, 16)]
    with pytest.raises(DataError, match="E-RLDS-STORE-002"):
        decode_depths(depths, size=(4, 4))
