"""The control process: the loop, its messages and its log, and nothing else.

It owns no bus. What it wants goes to the guard through the board; who started it talks
to it over a channel, and when that closes it stops.
"""

from __future__ import annotations

import argparse
import gc
import signal
import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from continuon.errors import ContinuonError, UsageError
from continuon.instruction import checked_instruction
from continuon.rig.calibration import CarCalibration, car_pulses_us
from continuon.rig.protocols import Rig
from continuon.rlds.episode import ActionSource
from continuon.robot.board import Board
from continuon.robot.channel import Channel, misunderstood
from continuon.robot.control_config import ControlConfig
from continuon.robot.feed import Feed
from continuon.robot.feed_facts import facts_of
from continuon.robot.kernel import Decision, Reason, SafetyLimits
from continuon.robot.loop import ControlLoop, run_periodic
from continuon.robot.modes import Motion
from continuon.robot.observing import RobotSenses, check_instruction, check_senses
from continuon.robot.outputs import BoardOutput
from continuon.robot.pilots import TeleopPilot
from continuon.robot.policies import ActiveModel, load_checked
from continuon.robot.power import PowerRule, PowerWatch
from continuon.robot.publisher import FeedPublisher
from continuon.robot.realtime import Grants, Wishes, make_real_time
from continuon.robot.remote_policy import RemoteSpec
from continuon.robot.shadow import ShadowRule
from continuon.robot.steady import SteadyBrain, SteadyEye
from continuon.robot.swapper import Swapper
from continuon.robot.tick_row import row_of
from continuon.robot.ticklog import TickLog

__all__ = ["ControlProcess", "main"]

_MESSAGES_A_TICK = 32
"""A flood of commands waits in the channel, and never holds up a tick."""


class ControlProcess:
    """One loop with its channel; `step` is one period.

    Args:
        config: its settings.
        rig: the senses.
        board: where commands go.
        log: where ticks go.
        channel: to whoever started this process.
        feed: where senses and commands are published.
        grants: what the kernel granted, for the status.
    """

    def __init__(
        self,
        config: ControlConfig,
        rig: Rig,
        *,
        board: Board,
        log: TickLog,
        channel: Channel,
        feed: Feed,
        grants: Grants,
    ) -> None:
        self._config = config
        self._clock = rig.clock
        self._log = log
        self._channel = channel
        self._grants = grants
        self._eye = SteadyEye(rig.camera, rig.clock) if rig.camera is not None else None
        self._output = BoardOutput(board)
        self._power = PowerWatch(
            board.read_supply, PowerRule.specified(without_gauge=config.without_gauge)
        )
        self._publisher = FeedPublisher(feed, self._eye, rig.state)
        calibration = config.calibration or getattr(rig, "calibration", None)
        self._loop = ControlLoop(
            camera=self._eye,
            state=rig.state,
            output=self._output,
            pulses=partial(car_pulses_us, calibration=calibration or CarCalibration()),
            limits=config.limits,
            always_think=True,
        )
        self._loop.instruction = checked_instruction(config.instruction)
        self._senses = RobotSenses.of(rig.camera, rig.state.names if rig.state else ())
        self._brain = SteadyBrain(self._clock)
        self._hand = TeleopPilot()
        self._motion = Motion.NONE
        self._running = True
        self._row: dict[str, Any] = {}
        self._swapped = False
        self._last_stop: list[str] = []
        loader = _by_name(config.loader)
        self.swapper = Swapper(
            lambda directory, backend, serial: load_checked(
                loader,
                directory,
                backend,
                serial=serial,
                action_count=len(config.limits.names),
            ),
            admit=partial(check_senses, body=self._senses),
        )

    def begin_with(self, directory: str, backend: str) -> None:
        """Load the first policy, before the loop runs.

        Raises:
            ContinuonError: it may not drive.
        """
        self._use(self.swapper.adopt(directory, backend))

    def run(self) -> None:
        """Tick until told to stop, or until nobody is at the channel's other end."""
        try:
            run_periodic(
                self.step,
                clock=self._clock,
                period_ns=self._config.period_ns,
                on_done=self.done,
            )
        finally:
            self._output.idle(now_ns=self._clock.monotonic_ns())

    def step(self, now_ns: int, lateness_ns: int) -> bool:
        """Do one period: messages, a waiting swap, the tick."""
        self._read_messages(now_ns)
        self._switch()
        barred = self._power.look(now_ns) or self._untold()
        self._loop.barred = barred if self._motion is Motion.POLICY else None
        was_executing = self._loop.executing
        tick = self._loop.tick(now_ns)
        if was_executing and not self._loop.executing:
            self._report_stop(tick.decision)
        self._publisher.publish(tick, executing=self._loop.executing)
        active = self.swapper.active
        self._row = row_of(
            tick,
            lateness_ns,
            policy=active.serial if active else 0,
            swapped=self._swapped,
            failed=self._brain.failed,
        )
        return self._running

    def done(self, work_ns: int, skipped: int) -> None:
        """Write the row of the period that just ended."""
        self._log.add(**self._row, work_ns=work_ns, skipped=skipped)

    def stop(self) -> None:
        """End `run` after the current period."""
        self._running = False

    def _read_messages(self, now_ns: int) -> None:
        for _ in range(_MESSAGES_A_TICK):
            try:
                message = self._channel.poll()
            except (EOFError, ConnectionError):
                self._loop.stop()
                self._running = False
                return
            if message is None or not self._running:
                return
            try:
                answer = self._obey(message, now_ns)
            except ContinuonError as error:
                answer = {"error": error.as_dict()}
            except (KeyError, TypeError, ValueError) as error:
                # A message that cannot be understood must not end a loop that drives.
                answer = {"error": misunderstood(error).as_dict()}
            if answer is not None and "id" in message:
                self._send({"id": message["id"], **answer})

    def _obey(self, message: Mapping[str, Any], now_ns: int) -> dict[str, Any] | None:
        match message.get("do"):
            case "swap":
                limits, rule = message.get("limits"), message.get("shadow")
                if rule is not None:
                    # it is to show itself first, and could not
                    wanted = msgspec.convert(message["host"]["spec"], RemoteSpec)
                    check_instruction(wanted, self._loop.instruction)
                compared = self._loop.pilot is self._brain and rule is not None
                self.swapper.request(
                    message["id"],
                    message["host"],
                    limits=limits and msgspec.convert(limits, SafetyLimits),
                    rule=msgspec.convert(rule, ShadowRule) if compared else None,
                )
                return None
            case "swap_back":
                self.swapper.request_back(message["id"])
                return None
            case "start":
                self._start(Motion(message["motion"]), message["epoch"], now_ns)
                return {"tick": self._log.count}
            case "stop":
                self._halt()
                return {"tick": self._log.count}
            case "teleop":
                with np.errstate(over="ignore"):  # the kernel refuses infinity
                    action = np.asarray(message["action"], np.float32)
                source = ActionSource(message["source"])
                self._hand.command(action, source, received_ns=now_ns)
                return None
            case "instruct":
                self._loop.instruction = checked_instruction(message["text"])
                return {"tick": self._log.count}
            case "status":
                return {"status": self._status()}
            case "close":
                self._halt()
                self._running = False
                return {"tick": self._log.count}
            case unknown:
                raise UsageError("E-ROBOT-CONTROL-001", "no such message", seen=unknown)

    def _start(self, motion: Motion, epoch: int, now_ns: int) -> None:
        if motion is Motion.NONE:
            raise UsageError("E-ROBOT-CONTROL-003", "nothing to start", seen=motion)
        if motion is Motion.POLICY and self.swapper.active is None:
            raise UsageError(
                "E-ROBOT-CONTROL-002",
                "there is no policy to execute",
                hint="stage and activate a bundle first",
            )
        if motion is Motion.POLICY:
            check_instruction(self._spec, self._loop.instruction)
            self._power.check_start(now_ns)
        self._motion = motion
        self._hand.reset()
        self._brain.reset()
        self._loop.pilot = self._hand if motion is Motion.TELEOP else self._brain
        self._output.epoch = epoch
        self._loop.start(now_ns)

    @property
    def _spec(self) -> Any:
        """The active policy's interface, None without one."""
        active = self.swapper.active
        return active.policy.spec if active is not None else None

    def _untold(self) -> Reason | None:
        spec, told = self._spec, self._loop.instruction
        needs = spec is not None and spec.instruction_size
        return Reason.NO_INSTRUCTION if needs and not told else None

    def _halt(self) -> None:
        self._loop.stop()
        self._think()
        gc.collect()

    def _switch(self) -> None:
        switch = self.swapper.take()
        self._brain.shadow = self.swapper.shadow
        self._swapped = switch is not None and switch.model is not None
        if switch is None:
            return
        answer: dict[str, Any] = {"id": switch.request_id}
        if switch.model is None:
            answer["error"] = switch.error
        else:
            self._use(switch.model)
            previous = self.swapper.previous
            answer["swap"] = {
                "tick": self._log.count,
                "model": switch.model.as_dict(),
                "previous": previous.as_dict() if previous else None,
                "shadow": switch.shadow.as_dict() if switch.shadow else None,
            }
        self._send(answer)

    def _use(self, model: ActiveModel) -> None:
        self._brain.use(model)
        self._loop.limits = model.limits or self._config.limits
        if self._motion is not Motion.TELEOP:
            self._loop.pilot = self._brain

    def _think(self) -> None:
        """Give the senses back to the policy, if there is one; nothing moves."""
        self._motion = Motion.NONE
        self._loop.pilot = self._brain if self.swapper.active else None

    def _report_stop(self, decision: Decision | None) -> None:
        reasons = [reason.value for reason in decision.reasons] if decision else []
        self._last_stop = reasons
        self._think()
        self._send({"event": "stopped", "reasons": reasons, "tick": self._log.count})

    def _status(self) -> dict[str, Any]:
        active, previous = self.swapper.active, self.swapper.previous
        return {
            "tick": self._log.count,
            "executing": self._loop.executing,
            "motion": self._motion.value,
            "command": list(self._loop.last_command),
            "active": active.as_dict() if active else None,
            "previous": previous.as_dict() if previous else None,
            "camera_failures": self._eye.failures if self._eye else 0,
            "last_camera_failure": self._eye.last_failure if self._eye else None,
            "policy_failures": self._brain.failures,
            "last_policy_failure": self._brain.last_failure,
            "policy_lacks": self._brain.lacks,
            "senses": self._senses.words,
            "instruction": self._loop.instruction,
            "needs_instruction": bool(self._spec and self._spec.instruction_size),
            "last_stop": self._last_stop,
            "grants": msgspec.to_builtins(self._grants),
            "unenforced": list(self._loop.limits.unenforced),
        }

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            self._channel.send(message)
        except (BrokenPipeError, BlockingIOError):
            # nobody reads any more: the same as a closed channel
            self._running = False


def _by_name(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def main(argv: list[str] | None = None) -> int:
    """Run one control process; its settings come as the channel's first message."""
    parser = argparse.ArgumentParser(prog="continuon.robot.control_process")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--board", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--feed", type=Path, required=True)
    args = parser.parse_args(argv)
    channel = Channel.from_fd(args.fd)
    config = ControlConfig.from_message(channel.receive())
    try:
        process = _build(config, args.board, args.log, args.feed, channel)
    except ContinuonError as error:
        channel.send({"id": 0, "error": error.as_dict()})
        return error.exit_code
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: process.stop())
    try:
        channel.send({"id": 0, "ready": True})
    except BrokenPipeError:
        # Who started it is gone already: there is nobody to drive for.
        return 0
    process.run()
    return 0


def _build(
    config: ControlConfig, board: Path, log: Path, feed: Path, channel: Channel
) -> ControlProcess:
    rig: Rig = config.rig.build()
    if rig.camera is not None:
        rig.camera.open()
    for name in config.preload:
        import_module(name)
    grants = make_real_time(
        Wishes(
            priority=config.fifo_priority,
            lock_memory=config.lock_memory,
            switch_interval_s=0.0005,
        )
    )
    process = ControlProcess(
        config,
        rig,
        board=Board.open(board),
        log=TickLog.open(log),
        channel=channel,
        feed=Feed.create(feed, facts_of(rig, config.limits.names, config.rate_hz)),
        grants=grants,
    )
    if config.artifact_dir is not None:
        process.begin_with(config.artifact_dir, config.backend)
    gc.collect()
    gc.freeze()
    gc.disable()
    return process


if __name__ == "__main__":
    sys.exit(main())
