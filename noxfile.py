# /// script
# dependencies = ["nox>=2025.2.9"]
# ///
"""The pipeline's face: sessions install a family and call the library."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.sessions = ["pipeline"]
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.reuse_venv = "yes"

EDGE = ("pi", "ota", "data")
TRAIN = ("train",)
EXPORT = ("pi", "ota", "train", "export", "onnx")
FOREIGN = ("depth", "lerobot", "ros", "viz", "arrayrecord")
PROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, extras: tuple[str, ...], *groups: str) -> None:
    needs = nox.project.dependency_groups(PROJECT, *groups) if groups else ()
    session.install("-e", f".[{','.join(extras)}]" if extras else ".", *needs)


def phase(session: nox.Session, extras: tuple[str, ...]) -> None:
    install(session, extras)
    session.run(
        "continuon", "pipeline", "run", "--only", session.name, *session.posargs
    )


@nox.session
def pipeline(session: nox.Session) -> None:
    """All ten phases on the simulated rig, or on --episodes-from RECORDING."""
    install(session, EXPORT)
    session.run("continuon", "pipeline", "run", *session.posargs)


@nox.session
def health(session: nox.Session) -> None:
    """Phase 1: camera, servo board, skew, battery, heat."""
    phase(session, EDGE)


@nox.session
def boot(session: nox.Session) -> None:
    """Phase 2: headless service, Robot API, discovery; armed but idle."""
    phase(session, EDGE)


@nox.session
def capture(session: nox.Session) -> None:
    """Phase 3: record episodes, or import a recording."""
    phase(session, EDGE)


@nox.session
def sanity(session: nox.Session) -> None:
    """Phase 4: a few JAX steps on this machine."""
    phase(session, TRAIN)


@nox.session
def proof(session: nox.Session) -> None:
    """Phase 5: learning, shown on held-out data against two controls."""
    phase(session, TRAIN)


@nox.session
def tfrecord(session: nox.Session) -> None:
    """Phase 6: episodes to TFDS files, and the anonymised export."""
    phase(session, EDGE)


@nox.session
def train(session: nox.Session) -> None:
    """Phase 7: train, evaluate on held-out episodes, compile for the edge."""
    phase(session, EXPORT)


@nox.session
def bundle(session: nox.Session) -> None:
    """Phase 8: manifest, digests, signature."""
    phase(session, EDGE)


@nox.session
def ota(session: nox.Session) -> None:
    """Phase 9: verify, stage, swap under the running loop, health-gate, commit."""
    phase(session, EDGE)


@nox.session
def validate(session: nox.Session) -> None:
    """Phase 10: drive with what was deployed, or roll it back."""
    phase(session, EDGE)


@nox.session
def tests(session: nox.Session) -> None:
    """Every unit test and law, in two processes."""
    install(session, (*EXPORT, *FOREIGN), "test")
    session.run("pytest", "-n2", "--dist=worksteal", "tests/unit", *session.posargs)


@nox.session
def laws(session: nox.Session) -> None:
    """The laws alone, with many more examples."""
    install(session, EXPORT, "test")
    args = ("--hypothesis-profile=thorough", *session.posargs)
    session.run("pytest", "tests/unit/laws", *args)


@nox.session(default=False)
def cluster(session: nox.Session) -> None:
    """The Slow loop on two hosts of two devices, killed and resumed; buckets."""
    install(session, (*TRAIN, "tpu"), "test")
    session.install("gcp-storage-emulator>=2024.8")
    session.run("pytest", "tests/cluster", *session.posargs)


@nox.session
def hil(session: nox.Session) -> None:
    """The bench rig's checks on the simulated rig, and on simulated device nodes."""
    install(session, EDGE, "test")
    session.run("pytest", "tests/hil", "--rig=sim", *session.posargs)


@nox.session
def coverage_rig(session: nox.Session) -> None:
    """Branch coverage of the drivers; no line is excluded as needing hardware."""
    install(session, EDGE, "test", "coverage")
    tests = sorted(map(str, Path("tests/unit").rglob("test_rig_*.py")))
    run = ("coverage", "run", "--branch", "--source=continuon/rig", "-m", "pytest")
    session.run(*run, *tests, "tests/hil", *session.posargs)
    session.run("coverage", "report", "--show-missing", "--fail-under=95")


@nox.session(venv_backend="venv", venv_params=["--system-site-packages"], default=False)
def hil_pi(session: nox.Session) -> None:
    """The same checks on a Pi; apt's numpy and picamera2 stay in charge."""
    install(session, EDGE, "test")
    session.run("pytest", "tests/hil", "--rig=pi", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """The Robot API against its own OpenAPI document, by schemathesis."""
    install(session, EDGE, "test")
    session.install("schemathesis>=4,<5")
    session.run("pytest", "tests/fuzz", "-p", "no:randomly", *session.posargs)


@nox.session
def safety(session: nox.Session) -> None:
    """Safe stops counted: nox -s safety -- --runs 100 --figures figures.json."""
    install(session, EDGE, "test")
    session.run("pytest", "tests/safety", *session.posargs)


@nox.session
def cockpit(session: nox.Session) -> None:
    """The cockpit page in headless Chromium, on the simulated rig."""
    install(session, EDGE, "test")
    session.run("pytest", "tests/cockpit", *session.posargs)


@nox.session(default=False)
def interop(session: nox.Session) -> None:
    """Stock tensorflow-datasets and rlds read what we write, to the last bit."""
    install(session, ("data", "arrayrecord"), "test")
    session.install(
        "tensorflow>=2.21,<2.23",
        "tensorflow-datasets>=4.9.10",
        "rlds>=0.1.8",
        "opencv-python-headless>=4.8",
    )
    args = ("-W", "ignore", "tests/interop/test_tfds_reads.py", *session.posargs)
    session.run("pytest", *args)


@nox.session(default=False)
def learner(session: nox.Session) -> None:
    """The learning process on a small home: promotion, what it leaves out, deadline."""
    install(session, EXPORT, "test")
    session.run("pytest", "tests/learner", *session.posargs)


@nox.session(default=False)
def converters(session: nox.Session) -> None:
    """litert-converter and TensorFlow's converter make the same function of a step."""
    install(session, ("pi", "train", "export"), "test")
    session.install("tensorflow>=2.21,<2.23")
    args = ("-W", "ignore", "tests/interop/test_converters_agree.py", *session.posargs)
    session.run("pytest", *args)


@nox.session(venv_backend="venv", default=False)
def interop_lerobot(session: nox.Session) -> None:
    """LeRobot itself opens what we write as LeRobot v3.

    Its own requirements pin PyTorch below what is current and pull much that reading
    needs not, so only what its data set class imports is installed beside it.
    """
    install(session, ("data", "lerobot"), "test")
    session.install("torch==2.14.1", "torchvision==0.29.1")
    session.install("--no-deps", "lerobot==0.4.4")
    session.install(
        "datasets>=4,<4.2",
        "accelerate",
        "deepdiff",
        "draccus==0.10.0",
        "einops",
        "jsonlines",
        "pandas",
        "pillow",
        "safetensors",
        "termcolor",
    )
    args = ("-W", "ignore", "tests/interop/test_lerobot_reads.py", *session.posargs)
    session.run("pytest", *args, env={"HF_HUB_OFFLINE": "1"})


@nox.session
def bench(session: nox.Session) -> None:
    """Ratios against peers and hardware limits, measured side by side."""
    install(session, EXPORT, "test")
    session.run("pytest", "tests/bench", "--benchmark-enable", *session.posargs)


@nox.session(default=False)
def bench_learn(session: nox.Session) -> None:
    """HOPE beside bounds and peers: step, training, 50 Hz, drift; -- --short."""
    install(session, (*EXPORT, "onnx"), "test")
    for module in ("bench", "pace", "drift"):
        specs = f"continuon._specs.learn.{module}"
        session.run("python", "-m", specs, *session.posargs)


PEERS = {
    "ours": (),
    "tfds_peer": (
        "tensorflow-cpu>=2.18",
        "tensorflow-datasets>=4.9.7",
        "array-record",
        "opencv-python-headless",
    ),
    "lerobot_peer": ("lerobot==0.4.4",),
}


@nox.session(default=False)
@nox.parametrize("peer", list(PEERS))
def bench_peers(session: nox.Session, peer: str) -> None:
    """One recording workload here and in two peers, each in its own environment."""
    if PEERS[peer]:
        session.install(*PEERS[peer])
    else:
        install(session, ("data",), "test")
    folder = session.posargs[0] if session.posargs else ".bench-peers"
    session.run("python", f"tests/bench/peers/{peer}.py", folder)
    session.run("python", "tests/bench/peers/run.py", folder)


@nox.session
def oracle(session: nox.Session) -> None:
    """The stock model_signing tool and we accept what the other signed."""
    install(session, ())
    session.install("model-signing>=1.1.1", "pyOpenSSL")
    tool = Path(session.bin) / "model_signing"
    scratch = Path(session.create_tmp()) / "oracle"
    session.run("python", "-m", "continuon._specs.bundle.oracle", str(tool), scratch)


@nox.session
def crash(session: nox.Session) -> None:
    """Power cuts, kills, full and failing disks at every step; `-- short` is brief."""
    install(session, EDGE, "test")
    short = "short" in session.posargs
    scratch = str(Path(session.create_tmp()) / "crash")
    specs = "continuon._specs.stager"
    session.run("python", "-m", f"{specs}.explore", "100000" if short else "1000000")
    every = "12" if short else "1"
    for mode in ("kill", "enospc", "eio"):
        session.run("python", "-m", f"{specs}.sweep", scratch, mode, every)
        fetch = "continuon._specs.ota.fetch_sweep"
        session.run("python", "-m", fetch, scratch, mode, every)


@nox.session
def lint(session: nox.Session) -> None:
    """Format and rules."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types on the package."""
    install(session, ("pi", "ota", "train"), "lint")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a folder of pages in site/."""
    install(session, (), "docs")
    session.run("python", "docs/build.py", *session.posargs)


if __name__ == "__main__":
    nox.main()
