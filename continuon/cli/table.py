"""Every command: its words, where it lives, one line about it, what it writes."""

from __future__ import annotations

import attrs

__all__ = ["COMMANDS", "Command"]


@attrs.frozen
class Command:
    """A command of the `continuon` program.

    Attributes:
        words: what a person types, `"bundle verify"`.
        target: `module:function` below `continuon.cli`.
        summary: one line for the table of commands.
        writes: parameters that name what it would write or move; with any, `--dry-run`
            prints them and does nothing.
        steps: switches that make it write; with `--dry-run` they are off and it reads.
    """

    words: str
    target: str
    summary: str
    writes: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


COMMANDS = (
    Command(
        "health", "hardware:health", "Check camera, servo board, skew, supply, heat"
    ),
    Command(
        "doctor", "hardware:doctor", "Say what this machine lacks and how to fix it"
    ),
    Command("rig scan", "hardware:scan", "List the devices that answer"),
    Command(
        "rig validate",
        "hardware:validate",
        "Measure the rig into a JSON log",
        ("log_json",),
    ),
    Command(
        "rig calibrate",
        "hardware:calibrate",
        "Measure the servo board's oscillator, and store it",
        ("home",),
    ),
    Command(
        "robot serve", "robot:serve", "Run the robot service: API, modes, discovery"
    ),
    Command("robot pair", "robot:pair", "Show a code that pairs one more client"),
    Command("robot clients", "robot:clients", "Who is paired; turn one away"),
    Command("robot instruct", "robot:instruct", "Tell the robot what to do"),
    Command(
        "robot install",
        "robot:install",
        "Write the systemd unit continuon.service",
        ("unit",),
    ),
    Command(
        "robot clear-estop",
        "robot:clear_estop",
        "Release a latched emergency stop",
        ("state",),
    ),
    Command(
        "record",
        "record:record",
        "Record episodes: the expert's or a person's",
        ("output_dir",),
    ),
    Command(
        "import",
        "episodes:import_",
        "Turn somebody's recording into episodes",
        ("output_dir",),
    ),
    Command("episodes list", "episodes:list_", "List recordings"),
    Command(
        "episodes show",
        "episode_show:show",
        "Say and draw what one recording holds",
        ("picture",),
    ),
    Command(
        "episodes stats", "episode_show:stats", "Measure the numbers of recordings"
    ),
    Command(
        "episodes view", "episode_show:view", "Open a recording in Rerun or Foxglove"
    ),
    Command(
        "episodes split",
        "episode_edit:split",
        "Cut a recording into parts",
        ("output_dir",),
    ),
    Command(
        "episodes trim",
        "episode_edit:trim",
        "Keep one part of a recording",
        ("output_dir",),
    ),
    Command(
        "episodes merge",
        "episode_edit:merge",
        "Join recordings of one setup",
        ("output_dir",),
    ),
    Command(
        "episodes delete",
        "episode_edit:delete",
        "Delete recordings for good",
        ("paths",),
    ),
    Command(
        "episodes validate", "episodes:validate", "Judge recordings by the contract"
    ),
    Command("episodes verify", "share:verify", "Check an export's signature and files"),
    Command(
        "episodes recover",
        "episodes:recover",
        "Save what a torn recording holds",
        ("path",),
    ),
    Command(
        "sanity", "learn:sanity", "A few JAX steps on this machine", ("checkpoint_dir",)
    ),
    Command("prove", "learn:prove", "Prove learning on held-out episodes", ("output",)),
    Command(
        "convert",
        "episodes:convert",
        "Write episodes as TFDS, LeRobot or Rerun files",
        ("output_dir",),
    ),
    Command("export", "share:export", "Write anonymised episodes", ("output_dir",)),
    Command(
        "mid run",
        "mid:run",
        "Learn an adapter from the latest episodes, if it helps",
        ("store",),
    ),
    Command(
        "mid use", "mid:use", "Compile the adapter in use and let it drive", ("home",)
    ),
    Command("mid status", "mid:status", "Say which adapter is in use and why"),
    Command("mid rollback", "mid:rollback", "Use the adapter before", ("store",)),
    Command(
        "memory keep",
        "plane:keep",
        "Take the latest episodes into the robot's memory, if it helps",
        ("store",),
    ),
    Command("memory show", "plane:show", "List the versions of the robot's memory"),
    Command(
        "memory rollback",
        "plane:rollback",
        "Make an older version of the memory the newest",
        ("store",),
    ),
    Command(
        "memory merge",
        "memory:merge",
        "Merge other robots' memories, if it helps",
        ("store",),
    ),
    Command(
        "train codebook",
        "memory:codebook",
        "Train a codebook of pictures",
        ("output",),
    ),
    Command(
        "train hand",
        "hand:train",
        "Train the manipulation head on demonstrations by hand",
        ("output",),
    ),
    Command(
        "train distil",
        "memory:distil",
        "Distil a large policy into a small one",
        ("output",),
    ),
    Command("train launch", "train:launch", "Print the specs of a run in the cloud"),
    Command("train", "train:train", "Train a policy from episodes", ("output_dir",)),
    Command("evaluate", "train:evaluate", "Score a checkpoint beside its baselines"),
    Command(
        "compile",
        "edge:compile_",
        "Compile a checkpoint for the edge",
        ("output_dir",),
    ),
    Command("infer", "edge:infer", "Run a compiled policy once and time it"),
    Command("keys new", "bundle:new_key", "Make a signing key", ("private_key",)),
    Command("bundle build", "bundle:build", "Assemble an edge bundle", ("output_dir",)),
    Command("bundle sign", "bundle:sign", "Sign an edge bundle", ("directory",)),
    Command("bundle verify", "bundle:verify", "Verify an edge bundle, or refuse it"),
    Command("bundle show", "bundle:show", "Say what a bundle holds"),
    Command(
        "ota publish",
        "ota:publish",
        "Publish a bundle to a repository",
        ("repository",),
    ),
    Command(
        "ota delegate",
        "ota:delegate",
        "Let a publisher sign its own channels",
        ("repository",),
    ),
    Command("ota check", "ota:check", "Say which bundle the repository offers"),
    Command("ota fetch", "ota:fetch", "Download the offered bundle", ("home",)),
    Command("ota stage", "ota:stage", "Verify a bundle into a slot", ("home",)),
    Command("ota activate", "ota:activate", "Put a staged slot on trial", ("home",)),
    Command(
        "ota commit", "ota:commit", "Make the slot on trial the good one", ("home",)
    ),
    Command("ota rollback", "ota:rollback", "Return to the last good slot", ("home",)),
    Command("ota status", "ota:status", "Say which slot runs and which is good"),
    Command(
        "ota recover", "ota:recover", "Finish or undo what a power cut left", ("home",)
    ),
    Command(
        "ota serve",
        "office:serve",
        "Run the grant office for owners and robots",
        ("database",),
    ),
    Command("grant request", "grant:request", "Ask for this robot's grant", ("home",)),
    Command("grant show", "grant:show", "Say what this robot may have"),
    Command(
        "grant claim", "grant:claim", "Make a robot yours by its code", ("robot_id",)
    ),
    Command("grant transfer", "grant:transfer", "Pass a robot on", ("robot_id",)),
    Command(
        "grant owner",
        "office:owner",
        "Make an owner known to the office",
        ("database",),
    ),
    Command(
        "grant subscribe", "office:subscribe", "Note what is paid for", ("database",)
    ),
    Command(
        "grant rollout",
        "office:rollout",
        "Start, widen or watch a rollout",
        ("database",),
    ),
    Command("validate", "pipeline:validate", "Validate what was deployed", ("home",)),
    Command(
        "manage",
        "pipeline:manage",
        "Say what is missing and the next commands",
        steps=("health", "convert_tfrecord", "train_local", "export", "post_validate"),
    ),
    Command("pipeline run", "pipeline:run", "Run the ten phases", ("home",)),
    Command("pipeline status", "pipeline:status", "Print the receipts of the last run"),
    Command("pipeline report", "pipeline:report", "Write the report page", ("output",)),
)
