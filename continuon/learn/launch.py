"""Where the Slow loop runs in the cloud: specs as values. Rendering starts nothing."""

from __future__ import annotations

import shlex
from typing import Any

import attrs

from continuon.errors import ContractError

__all__ = ["LaunchPlan", "job_set", "queued_resource"]


@attrs.frozen(kw_only=True)
class LaunchPlan:
    """What to run, and on what.

    Attributes:
        name: of the run; lower-case letters, digits and dashes.
        data_path, output_dir: what `continuon train` takes; buckets, since every host
            must reach them.
        accelerator: as the cloud names it, for instance `v5litepod-16`.
        topology: of its chips, for instance `4x4`; hosts: that it has.
        zone: of the cloud. runtime: image of the TPU's virtual machine.
        image: container with this library, for the JobSet.
        config_preset, num_steps, seed: of the training.
        spot: whether the cloud may take the machines back; the run resumes.
    """

    name: str
    data_path: str
    output_dir: str
    accelerator: str = "v5litepod-16"
    topology: str = "4x4"
    hosts: int = 4
    zone: str = "us-east5-b"
    runtime: str = "v2-alpha-tpuv5-lite"
    image: str = "continuon:latest"
    config_preset: str = "tpu"
    num_steps: int = 20_000
    seed: int = 0
    spot: bool = False

    def __attrs_post_init__(self) -> None:
        plain = self.name.replace("-", "a")
        if not (plain.isalnum() and plain.islower() and self.name[0].isalpha()):
            raise ContractError(
                "E-LEARN-LAUNCH-001",
                "the run's name is none that clouds take",
                seen=self.name,
                allowed="lower-case letters, digits, dashes; a letter first",
            )
        for field in ("data_path", "output_dir"):
            if "://" not in getattr(self, field):
                raise ContractError(
                    "E-LEARN-LAUNCH-002",
                    "several hosts cannot share a local folder",
                    where=field,
                    seen=getattr(self, field),
                    allowed="a bucket, gs://...",
                )

    def command(self) -> tuple[str, ...]:
        """Return the command that every host runs."""
        return (
            "continuon",
            "train",
            "--mode",
            "tpu",
            "--data-path",
            self.data_path,
            "--output-dir",
            self.output_dir,
            "--config-preset",
            self.config_preset,
            "--num-steps",
            str(self.num_steps),
            "--seed",
            str(self.seed),
        )


def queued_resource(plan: LaunchPlan) -> dict[str, Any]:
    """Return the body of a TPU queued-resource request (Cloud TPU API, v2alpha1).

    The run starts from the node's start-up script.
    """
    script = "#!/bin/bash\n" + " ".join(map(shlex.quote, plan.command())) + "\n"
    node = {
        "acceleratorType": plan.accelerator,
        "runtimeVersion": plan.runtime,
        "metadata": {"startup-script": script},
    }
    return {
        "tpu": {"nodeSpec": [{"nodeId": plan.name, "node": node}]},
        ("spot" if plan.spot else "guaranteed"): {},
    }


def job_set(plan: LaunchPlan) -> dict[str, Any]:
    """Return a JobSet (jobset.x-k8s.io/v1alpha2): one pod a host, all or none."""
    container = {
        "name": "train",
        "image": plan.image,
        "command": list(plan.command()),
        "resources": {"limits": {"google.com/tpu": _chips(plan)}},
    }
    selector = {
        "cloud.google.com/gke-tpu-accelerator": plan.accelerator,
        "cloud.google.com/gke-tpu-topology": plan.topology,
    }
    if plan.spot:
        selector["cloud.google.com/gke-spot"] = "true"
    pod = {
        "restartPolicy": "Never",
        "nodeSelector": selector,
        "containers": [container],
    }
    job = {
        "parallelism": plan.hosts,
        "completions": plan.hosts,
        "backoffLimit": 0,
        "template": {"spec": pod},
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": plan.name},
        "spec": {
            "failurePolicy": {"maxRestarts": 3},
            "replicatedJobs": [
                {"name": "hosts", "replicas": 1, "template": {"spec": job}}
            ],
        },
    }


def _chips(plan: LaunchPlan) -> int:
    """Return the chips of one host.

    Raises:
        ContractError: E-LEARN-LAUNCH-003, the topology is not one for so many hosts.
    """
    sides = plan.topology.split("x")
    total = 1
    for side in sides:
        total *= int(side) if side.isdigit() else 0
    if total == 0 or total % plan.hosts:
        raise ContractError(
            "E-LEARN-LAUNCH-003",
            "the chips of the topology do not divide among the hosts",
            seen=f"{plan.topology} over {plan.hosts} hosts",
            allowed="for instance 4x4 over 4",
        )
    return total // plan.hosts
