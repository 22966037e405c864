"""Train an adapter with PyTorch: the same windows, the same file, no JAX gradient.

The network's maths is written a third time, over torch tensors and tick by tick; a
test holds it against the other two. Only the adapter gets gradient.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from continuon.errors import ContractError, MissingPackageError
from continuon.hope.config import HopeConfig
from continuon.learn.finite import require_finite
from continuon.learn.mid_train import MidTask, MidTraining
from continuon.learn.windows import Batch

__all__ = ["TorchHope", "train_adapter"]

_PROPRIO_LIMIT = 1000.0
_MIN_DECAY = 1e-5
_BOUND = 0.5
_CLIP = 1.0


def _torch() -> Any:
    try:
        return import_module("torch")
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "torch", "pytorch", purpose="--trainer pytorch"
        ) from error


def train_adapter(task: MidTask) -> MidTraining:
    """Minimise the action error over the adapter: Adam, clipped, constant rate.

    Raises:
        MissingPackageError: PyTorch is not installed.
        DataError: E-LEARN-NAN-001, a loss is not finite.
    """
    torch = _torch()
    network = TorchHope(task.config, task.params, task.adapter)
    leaves = network.adapter_leaves()
    optimiser = torch.optim.Adam(leaves, lr=task.recipe.learning_rate)
    losses: list[float] = []
    for batch in task.batches():
        loss = network.action_error(batch)
        losses.append(float(loss.detach()))
        require_finite(losses[-1], where=f"adapter, step {len(losses) - 1}")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(leaves, _CLIP)
        optimiser.step()
    return MidTraining(adapter=network.adapter(), losses=tuple(losses))


def _known_here(config: HopeConfig) -> HopeConfig:
    """Return the config.

    Raises:
        ContractError: E-LEARN-TORCH-001, it has a part that only JAX computes.
    """
    parts = {
        "action_chunk": config.action_chunk > 1,
        "depth": config.has_depth,
        "instruction_size": config.instruction_size > 0,
        "mid_turns": config.mid_turns,
        "straight_action": config.straight_action,
        "tokens": config.has_tokens,
        "unit_keys": config.unit_keys,
    }
    missing = [name for name, used in parts.items() if used]
    if missing:
        raise ContractError(
            "E-LEARN-TORCH-001",
            "the PyTorch trainer does not compute all of this network",
            seen=", ".join(missing),
            allowed="networks without these",
            hint="use `--trainer jax`",
        )
    return config


class TorchHope:
    """A frozen network with a trainable adapter."""

    def __init__(self, config: HopeConfig, params: Any, adapter: Any) -> None:
        from continuon.hope.checkpoint import flatten

        self._torch = _torch()
        self._config = _known_here(config)
        self._weights = {
            path: self._tensor(value) for path, value in flatten(params).items()
        }
        self._adapter = {
            path: {part: self._tensor(value) for part, value in parts.items()}
            for path, parts in adapter.items()
        }
        for leaf in self.adapter_leaves():
            leaf.requires_grad_(True)  # noqa: FBT003

    def adapter_leaves(self) -> list[Any]:
        """Return the trainable tensors."""
        return [leaf for parts in self._adapter.values() for leaf in parts.values()]

    def adapter(self) -> dict[str, dict[str, Any]]:
        """Return the adapter as numpy arrays."""
        return {
            path: {part: leaf.detach().numpy().copy() for part, leaf in parts.items()}
            for path, parts in self._adapter.items()
        }

    def action_error(self, batch: Batch) -> Any:
        """Return the mean absolute action error of a batch, from a reset state."""
        weight = self._tensor(batch.valid)[..., None]
        error = (self.actions(batch) - self._tensor(batch.action)).abs() * weight
        return error.sum() / (weight.sum() * error.shape[-1]).clamp(min=1.0)

    def actions(self, batch: Batch) -> Any:
        """Return [B, T, A]; the previous action, where used, is the teacher's."""
        torch, ticks = self._torch, batch.valid.shape[1]
        merged = self._merged()
        state = [_Block(self, merged, i) for i in range(self._config.layers)]
        actions, prediction, frame = [], None, None
        previous = np.pad(batch.action[:, :-1], ((0, 0), (1, 0), (0, 0)))
        for tick in range(ticks):
            senses = (batch.images[:, tick], batch.proprio[:, tick], previous[:, tick])
            follows = self._tensor(batch.follows[:, tick])[:, None]
            x, latent, frame = self._encode(*senses, frame, follows)
            error = (
                torch.zeros_like(latent) if prediction is None else latent - prediction
            )
            for block in state:
                x = block.advance(x, error, tick)
            prediction = x @ merged["heads/prediction"]
            raw = x @ merged["heads/action"] + merged["heads/action_bias"]
            actions.append(torch.tanh(raw))
        return torch.stack(actions, 1)

    def zeros(self, *shape: int) -> Any:
        """Return float32 zeros."""
        return self._torch.zeros(shape)

    @property
    def torch(self) -> Any:
        """The library."""
        return self._torch

    @property
    def config(self) -> HopeConfig:
        """The network's shape."""
        return self._config

    def _tensor(self, value: Any) -> Any:
        return self._torch.tensor(np.array(value, np.float32))

    def _merged(self) -> dict[str, Any]:
        merged = dict(self._weights)
        for path, parts in self._adapter.items():
            base, down, up = merged[path], parts["down"], parts["up"]
            square = ((down.T @ down) * (up @ up.T)).sum()
            limit = (_BOUND**2 * base.square().sum()).clamp(min=1e-20)
            scale = (limit / self._torch.maximum(square, limit)).sqrt()
            merged[path] = base + down @ (up * scale)
        return merged

    def _encode(
        self, image: Any, proprio: Any, previous: Any, before: Any, follows: Any
    ) -> tuple[Any, Any, Any]:
        torch, config, w = self._torch, self._config, self._weights
        x, sources, frame = w["encoder/bias"], [], None
        if config.has_image:
            pixels = self._tensor(image) / 255.0 - 0.5
            features = pixels.permute(0, 3, 1, 2)
            for index in range(len(config.image_channels)):
                name = f"encoder/convolutions/{index}/"
                features = self._convolve(features, w[name + "kernel"])
                bias = w[name + "bias"][:, None, None]
                features = torch.nn.functional.silu(features + bias)
            flat = features.permute(0, 2, 3, 1).reshape(len(pixels), -1)
            x = x + flat @ w["encoder/image"]
            if config.senses_motion:
                frame = _normalised(pixels.mean(-1))
                shift = self._motion(frame, frame if before is None else before)
                x = x + (shift * follows) @ w["encoder/motion"]
            cells = w["frozen/rows"] @ pixels.mean(-1) @ w["frozen/columns"]
            sources.append(cells.reshape(len(pixels), -1))
        if config.proprio:
            sensed = self._tensor(proprio).clamp(-_PROPRIO_LIMIT, _PROPRIO_LIMIT)
            x = x + sensed @ w["encoder/proprio"]
            sources.append(sensed)
        if config.use_previous_action:
            last = self._tensor(previous).clamp(-1.0, 1.0)
            x = x + last @ w["encoder/previous_action"]
        x = x + torch.nn.functional.silu(x) @ w["encoder/mix"]
        return x, torch.cat(sources, -1) @ w["frozen/projection"], frame

    def _motion(self, now: Any, before: Any) -> Any:
        from continuon.hope.motion import MAX_SHIFT_PX, band_sums

        bands = self._tensor(band_sums(self._config))
        middle = 0.5 * (now + before)
        slope = 0.5 * (middle[..., 2:] - middle[..., :-2])
        shared = (slope * (now - before)[..., 1:-1]).sum(-1) @ bands.T
        size = slope.square().sum(-1) @ bands.T
        return (-shared / (size + 1.0)).clamp(-MAX_SHIFT_PX, MAX_SHIFT_PX)

    def _convolve(self, features: Any, kernel: Any) -> Any:
        pads: list[int] = []
        size = kernel.shape[0]
        for pixels in (features.shape[3], features.shape[2]):
            total = max((-(-pixels // 2) - 1) * 2 + size - pixels, 0)
            pads += [total // 2, total - total // 2]
        padded = self._torch.nn.functional.pad(features, pads)
        return self._torch.nn.functional.conv2d(
            padded, kernel.permute(3, 2, 0, 1), stride=2
        )


class _Block:
    """Fast, Mid and Slow of one layer, and their state for a batch."""

    def __init__(self, owner: TorchHope, weights: dict[str, Any], index: int) -> None:
        prefix = f"blocks/{index}/"
        self._owner, self._t, self._config = owner, owner.torch, owner.config
        self._w = {
            name.removeprefix(prefix): value
            for name, value in weights.items()
            if name.startswith(prefix)
        }
        self._state: dict[str, Any] = {}

    def advance(self, x: Any, error: Any, tick: int) -> Any:
        config = self._config
        if tick == 0:
            self._reset(x.shape[0])
        if config.online:
            self._write_slow(error, tick)
        if config.self_modifying and tick % config.chunk == 0:
            self._state["anchor"] = self._state["memory"][..., config.head_size :]
        return self._read_slow(self._mid(self._fast(x)))

    def _reset(self, batch: int) -> None:
        config, zeros = self._config, self._owner.zeros
        heads, size = config.heads, config.head_size
        columns = len(config.periods) * config.d
        self._state = {
            "window": [zeros(batch, 3 * heads * size)] * (config.convolution_width - 1),
            "memory": zeros(batch, heads, size, config.memory_size),
            "anchor": zeros(batch, heads, size, config.self_size),
            "mid": zeros(batch, config.mid_units),
            "key": zeros(batch, config.slow_key),
            "slow": zeros(batch, config.slow_key, columns),
            "gradient": zeros(batch, config.slow_key, columns),
        }

    def _fast(self, x: Any) -> Any:
        t, w, state, config = self._t, self._w, self._state, self._config
        size, heads = config.head_size, config.heads
        silu, softplus = t.nn.functional.silu, t.nn.functional.softplus
        normed = _soft(x, w["fast/norm"])
        window = [*state["window"], normed @ w["fast/qkv"]]
        state["window"] = window[1:]
        taps = w["fast/taps"]
        qkv = sum(part * tap for part, tap in zip(window, taps, strict=True))
        qkv = qkv.reshape(len(x), heads, 3 * size)
        query, key = _unit(qkv[..., :size]), _unit(qkv[..., size : 2 * size])
        value = qkv[..., 2 * size :]
        gates = normed @ w["fast/gates"] + w["fast/gates_bias"]
        strength, decay = gates[:, :heads], gates[:, heads:]
        if config.self_modifying:
            anchor = state["anchor"]
            read = t.einsum("bhk,bhkv->bhv", key, anchor)
            key = _unit(key + read[..., :size])
            value = value + read[..., size : 2 * size]
            strength, decay = strength + read[..., -2], decay + read[..., -1]
            own = t.einsum("bhk,bhkv->bhv", value, anchor)
            gain = w["fast/self_gain"]
            parts = [
                value,
                gain[0] * _unit(own[..., :size] + value),
                gain[1] * _unit(own[..., size : 2 * size] + value),
                gain[2] * t.tanh(own[..., 2 * size :] + value[..., :2]),
            ]
            value = t.cat(parts, -1)
        keep = t.exp(-softplus(-decay) - _MIN_DECAY)[..., None, None]
        kept = keep * state["memory"]
        write = 2.0 * t.sigmoid(strength)[..., None]
        update = write * (value - t.einsum("bhk,bhkv->bhv", key, kept))
        state["memory"] = kept + key[..., :, None] * update[..., None, :]
        read = t.einsum("bhk,bhkv->bhv", query, state["memory"][..., :size])
        flat = _soft(read, w["fast/read_norm"]).reshape(len(x), -1)
        return x + (flat * silu(normed @ w["fast/read_gate"])) @ w["fast/out"]

    def _mid(self, x: Any) -> Any:
        t, w = self._t, self._w
        both = _soft(x, w["mid/norm"]) @ w["mid/inputs"]
        inputs, gate = both.chunk(2, -1)
        recur, take = t.sigmoid(inputs @ w["mid/gates"]).chunk(2, -1)
        rest = t.nn.functional.softplus(w["mid/decay"])
        log_keep = -8.0 * rest * recur - _MIN_DECAY
        drive = t.sqrt(-t.expm1(2.0 * log_keep)) * take * inputs
        self._state["mid"] = t.exp(log_keep) * self._state["mid"] + drive
        gelu = t.nn.functional.gelu(gate, approximate="tanh")
        return x + (self._state["mid"] * gelu) @ w["mid/out"]

    def _write_slow(self, error: Any, tick: int) -> None:
        t, w, state, width = self._t, self._w, self._state, self._config.d
        residual = _soft(error, 1.0) @ w["slow/feedback"]
        residual = residual - t.einsum("bm,bmc->bc", state["key"], state["slow"])
        gradient = state["gradient"] + state["key"][..., None] * residual[:, None]
        slow, due = [], []
        for level, period in enumerate(self._config.periods):
            columns = slice(level * width, (level + 1) * width)
            held, grown = state["slow"][..., columns], gradient[..., columns]
            if tick and tick % period == 0:
                rate = 2.0 * t.sigmoid(w["slow/rate"][level]) / period
                held = (1.0 - t.sigmoid(w["slow/leak"][level])) * (held + rate * grown)
                grown = t.zeros_like(grown)
            slow.append(held)
            due.append(grown)
        state["slow"], state["gradient"] = t.cat(slow, -1), t.cat(due, -1)

    def _read_slow(self, x: Any) -> Any:
        t, w, width = self._t, self._w, self._config.d
        read = None
        if self._config.online:
            key = _unit(_soft(x, w["slow/levels/0/norm"]) @ w["slow/key"])
            self._state["key"] = key
            read = t.einsum("bm,bmc->bc", key, self._state["slow"])
        for level in range(len(self._config.periods)):
            name = f"slow/levels/{level}/"
            hidden = _soft(x, w[name + "norm"]) @ w[name + "up"]
            y = t.nn.functional.silu(hidden) @ w[name + "down"]
            if read is not None:
                y = y + read[..., level * width : (level + 1) * width]
            x = x + y
        return x


def _normalised(grey: Any) -> Any:
    centred = grey - grey.mean((-2, -1), keepdim=True)
    variance = centred.square().mean((-2, -1), keepdim=True)
    return centred * (variance + 1e-4).rsqrt()


def _soft(x: Any, gain: Any) -> Any:
    return x * (x.square().mean(-1, keepdim=True) + 1.0).rsqrt() * gain


def _unit(x: Any) -> Any:
    return x * (x.square().sum(-1, keepdim=True) + 1.0).rsqrt()
