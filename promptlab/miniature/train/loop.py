"""One training loop for every part of the miniature: schedule, clipping, averaging, log, checkpoints, resume.

A stage gives a model and a function from step to loss. Whatever is random in a step is drawn from
`step_rng(seed, step)`, so a run that was interrupted and resumed sees the data that an uninterrupted run would have
seen. Checkpoints are safetensors (weights, moving averages, both Adam moments), written beside and renamed.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from promptlab.errors import DiskError, ModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["Fit", "Report", "Shard", "autocast", "device", "fit", "save_tensors", "shard_of", "step_rng", "warm_file"]

Report = Callable[[str], None]
"""Takes one line of progress."""


@dataclass(frozen=True)
class Fit:
    """How long and how fast a stage learns. `ema` 0 keeps no average; `lr` is the peak of a warm-up and cosine."""

    steps: int
    batch: int
    lr: float
    warmup: int = 100
    weight_decay: float = 0.01
    ema: float = 0.0
    checkpoint_seconds: float = 120.0


def step_rng(seed: int, step: int) -> np.random.Generator:
    """Random numbers of one step, the same however often the run was interrupted."""
    return np.random.default_rng([seed, step])


def device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def autocast() -> Iterator[None]:
    """bfloat16 on CUDA and on CPUs with native bfloat16 matrix units; float32 elsewhere."""
    import torch

    kind = device().type
    native = kind == "cuda" or torch.cpu._is_avx512_bf16_supported()
    with torch.autocast(kind, torch.bfloat16, enabled=native):
        yield


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file beside `path`, then rename. Raises DiskError when there is no room."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    try:
        save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, unfinished, metadata)
        os.replace(unfinished, path)
    except Exception as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) or "No space" in str(error) or "os error 28" in str(error):
            raise DiskError(f"cannot write {path}: {error}. The last complete checkpoint is kept; free room") from error
        raise


class _State:
    """Model, optimizer and moving average as one named set of tensors."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, ema: float) -> None:
        self.model, self.optimizer, self.decay = model, optimizer, ema
        self.named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self.average = {n: p.detach().clone() for n, p in self.named} if ema else {}

    def update_average(self, step: int) -> None:
        import torch

        if self.decay:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.average.values()), [p.detach() for _, p in self.named], 1 - decay)

    def save(self, path: Path, step: int) -> None:
        tensors = {f"model.{n}": p for n, p in self.model.state_dict().items()}
        tensors |= {f"average.{n}": p for n, p in self.average.items()}
        for name, p in self.named:
            for moment in ("exp_avg", "exp_avg_sq"):
                tensors[f"{moment}.{name}"] = self.optimizer.state[p][moment]
        save_tensors(tensors, path, {"step": str(step)})

    def load(self, path: Path) -> int:
        import torch
        from safetensors import safe_open

        try:
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict
                step = int(file.metadata()["step"])
            self.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
            for name, p in self.named:
                if self.decay:
                    self.average[name].copy_(tensors[f"average.{name}"])
                self.optimizer.state[p] = {
                    "step": torch.tensor(float(step)),
                    "exp_avg": tensors[f"exp_avg.{name}"].to(p),
                    "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(p),
                }
        except Exception as error:
            cause = str(error).splitlines()[0][:120]
            raise ModelError(
                f"corrupt checkpoint {path} ({cause}): delete it and run the same command to repeat this stage"
            ) from error
        return step

    def adopt_average(self) -> None:
        import torch

        if self.average:
            with torch.no_grad():
                for name, p in self.named:
                    p.copy_(self.average[name])


class Shard(NamedTuple):
    """A part of every batch: its own copy of the model (weights shared, gradients not) and its loss of a step."""

    model: nn.Module
    loss_of: Callable[[int], Tensor]


def shard_of(model: nn.Module, loss_of: Callable[[nn.Module, int], Tensor]) -> Shard:
    """A copy of `model` that reads the same weights. On two cores a thread a shard beats two threads an operation."""
    twin = copy.deepcopy(model)
    for parameter, shared in zip(twin.parameters(), model.parameters(), strict=True):
        parameter.data = shared.data
    return Shard(twin, partial(loss_of, twin))


def _backward(loss_of: Callable[[int], Tensor], step: int) -> float:
    """Add the gradients of one step to the parameters; returns the loss."""
    with autocast():
        loss = loss_of(step)
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _gather(params: Sequence[Tensor], shards: Sequence[Shard]) -> None:
    """The mean gradient over the model and its shards, in the model."""
    for shard in shards:
        for parameter, other in zip(params, (p for p in shard.model.parameters() if p.requires_grad), strict=True):
            if parameter.grad is not None and other.grad is not None:
                parameter.grad += other.grad
            other.grad = None
    for parameter in params:
        if parameter.grad is not None:
            parameter.grad /= 1 + len(shards)


def warm_file(folder: Path, name: str) -> Path:
    """Where a stage looks for weights to begin from, in place of random ones."""
    return folder / f"{name}.warm.safetensors"


def _load_warm(model: nn.Module, path: Path) -> None:
    from safetensors.torch import load_file

    try:
        missing, unexpected = model.load_state_dict(load_file(path), strict=False)
        wrong = [*unexpected, *(name for name in missing if not name.startswith("places."))]  # that head never ships
        if wrong:
            raise ValueError(f"tensors differ: {', '.join(wrong[:3])}")
    except Exception as error:
        raise ModelError(f"{path} does not fit this preset: {str(error).splitlines()[0]}") from error


def fit(
    name: str,
    model: nn.Module,
    loss_of: Callable[[int], Tensor],
    plan: Fit,
    folder: Path,
    report: Report,
    shards: Sequence[Shard] = (),
) -> None:
    """Train `model` in place for `plan.steps` steps and leave its moving average in it.

    Args:
        name: the stage; `folder/<name>.safetensors` is its checkpoint, `folder/<name>.jsonl` its log.
        loss_of: the loss of one step (a scalar, with gradient); draws its batch from `step_rng`.
        shards: further parts of every batch, computed at the same time, a thread each; the mean gradient counts.

    Raises:
        ModelError: the checkpoint is corrupt, or the loss is no longer finite.
        DiskError: there is no room for a checkpoint.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=plan.lr, betas=(0.9, 0.98), weight_decay=plan.weight_decay, fused=True)
    checkpoint, start = folder / f"{name}.safetensors", 0
    beginning = warm_file(folder, name)
    if beginning.exists() and not checkpoint.exists():
        report(f"{name}: begins from {beginning.name}")
        _load_warm(model, beginning)
    state = _State(model, optimizer, plan.ema)
    if checkpoint.exists():
        start = state.load(checkpoint)
        report(f"{name}: resumed at step {start} of {plan.steps}")
    began = reported = saved = time.monotonic()
    recent: list[float] = []
    with (folder / f"{name}.jsonl").open("a") as log, ThreadPoolExecutor(max(1, len(shards))) as pool:
        for step in range(start, plan.steps):
            warm = min(1.0, (step + 1) / max(1, plan.warmup))
            rate = plan.lr * warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / plan.steps)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            others = [pool.submit(_backward, shard.loss_of, step) for shard in shards]
            losses = [_backward(loss_of, step), *(other.result() for other in others)]
            if shards:
                _gather(params, shards)
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            state.update_average(step)
            recent.append(float(np.mean(losses)))
            now = time.monotonic()
            if now - reported > 10 or step + 1 == plan.steps:
                mean = float(np.mean(recent))
                if not np.isfinite(mean):
                    raise ModelError(f"{name}: the loss is not finite at step {step + 1}: lower lr in the preset")
                eta = (now - began) / (step + 1 - start) * (plan.steps - step - 1)
                report(f"{name}: step {step + 1}/{plan.steps}, loss {mean:.4f}, {eta / 60:.1f} min left")
                line = {"step": step + 1, "loss": round(mean, 5), "seconds": round(now - began, 1)}
                log.write(json.dumps(line) + "\n")
                log.flush()
                reported, recent = now, []
            if now - saved > plan.checkpoint_seconds:
                state.save(checkpoint, step + 1)
                saved = now
    if start < plan.steps:
        state.save(checkpoint, plan.steps)
    state.adopt_average()
