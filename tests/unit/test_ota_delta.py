import hashlib

import numpy as np
import pytest

from continuon.errors import TrustError, UsageError
from continuon.ota.delta import apply_patch, best_patch, make_deltas

zstd = pytest.importorskip("backports.zstd", reason="no zstd here")
RNG = np.random.default_rng(7)
BASE = RNG.standard_normal(20_000).astype(np.float32)
TUNED = (BASE * (1 + 1e-3 * RNG.standard_normal(BASE.size))).astype(np.float32)


def check(base, new):
    patch = best_patch(base, new)
    digest = hashlib.sha256(new).hexdigest()
    assert (
        apply_patch(patch.codec, base, patch.data, size_bytes=len(new), sha256=digest)
        == new
    )
    return patch, len(patch.data) / len(new)


@pytest.mark.req("R-OTA-17")
@pytest.mark.parametrize(
    ("dtype", "most"),
    [(np.float32, 0.60), (np.float16, 0.32), (np.int8, 0.10)],
    ids=["float32", "float16", "int8"],
)
def test_a_fine_tune_is_a_small_patch(dtype, most):
    scale = 30 if dtype is np.int8 else 1
    base, new = (
        (np.round(x * scale) if scale > 1 else x).astype(dtype).tobytes()
        for x in (BASE, TUNED)
    )
    assert check(base, new)[1] < most


@pytest.mark.req("R-OTA-17")
def test_a_file_that_grew_is_patched_by_its_prefix():
    patch, share = check(BASE.tobytes(), BASE.tobytes() + b"an adapter at the end")
    assert patch.codec == "zstd-prefix"
    assert share < 0.01


def test_what_has_nothing_in_common_gets_no_patch():
    assert best_patch(RNG.bytes(5000), RNG.bytes(5000)) is None
    assert best_patch(b"", RNG.bytes(100)) is None


@pytest.mark.req("R-OTA-17")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda patch: b"",
        lambda patch: patch[:-1],
        lambda patch: patch[:40] + bytes([patch[40] ^ 255]) + patch[41:],
        lambda patch: bytes([9]) + patch[1:],
        lambda patch: patch + b"tail",
        lambda patch: bytes([4]) + zstd.compress(bytes(50 << 20)),
    ],
    ids=["empty", "cut", "flipped", "another width", "a tail", "a bomb"],
)
def test_a_spoiled_patch_never_gives_a_file(spoil):
    base, new = BASE.tobytes(), TUNED.tobytes()
    patch = best_patch(base, new)
    digest = hashlib.sha256(new).hexdigest()
    spoiled = spoil(patch.data)
    with pytest.raises(TrustError, match="DELTA-001"):
        apply_patch(patch.codec, base, spoiled, size_bytes=len(new), sha256=digest)


def test_a_patch_for_another_base_is_refused():
    new = TUNED.tobytes()
    patch = best_patch(BASE.tobytes(), new)
    digest = hashlib.sha256(new).hexdigest()
    for base in (BASE.tobytes()[:-4], bytes(len(new)), b""):
        with pytest.raises(TrustError, match="DELTA-001"):
            apply_patch(
                patch.codec, base, patch.data, size_bytes=len(new), sha256=digest
            )
    with pytest.raises(UsageError, match="DELTA-002"):
        apply_patch("bsdiff", b"", b"", size_bytes=0, sha256=digest)


def test_only_worthwhile_patches_are_written(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    (old / "policy.tflite").write_bytes(BASE.tobytes())
    (new / "policy.tflite").write_bytes(TUNED.tobytes())
    (old / "noise").write_bytes(RNG.bytes(900))
    (new / "noise").write_bytes(RNG.bytes(900))
    for folder in (old, new):
        (folder / "same").write_bytes(b"same")
    (new / "fresh").write_bytes(b"fresh")
    deltas = make_deltas(new, [old], tmp_path / "deltas")
    assert [delta.path for delta in deltas] == ["policy.tflite"]
    assert (tmp_path / "deltas" / deltas[0].sha256).stat().st_size == deltas[0].bytes


def test_what_is_too_large_for_a_robots_memory_gets_no_patch(tmp_path, monkeypatch):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, data in ((old, BASE), (new, TUNED)):
        folder.mkdir()
        (folder / "policy.tflite").write_bytes(data.tobytes())
    assert len(make_deltas(new, [old], tmp_path / "deltas")) == 1
    monkeypatch.setattr("continuon.ota.delta.MAX_PATCHED_BYTES", 2 * BASE.nbytes - 1)
    assert make_deltas(new, [old], tmp_path / "none") == ()
