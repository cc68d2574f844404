"""A batch dealt to several threads teaches what the whole batch teaches."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from promptlab.miniature.train import loop
from promptlab.miniature.train.loop import Fit, fit, shard_of, step_rng

PLAN = Fit(steps=12, batch=6, lr=0.05, warmup=2)


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_shards_give_the_gradient_of_the_whole_batch(
    shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that each see a part of the batch end where one that sees all of it ends."""
    monkeypatch.setattr(loop, "autocast", nullcontext)
    torch.manual_seed(0)
    model = nn.Linear(3, 2)

    def loss_of(network: nn.Module, step: int, shard: int = 0) -> torch.Tensor:
        x = torch.from_numpy(step_rng(7, step).standard_normal((6, 3), np.float32))[shard::shards]
        loss: torch.Tensor = (network(x) - x[:, :2]).square().mean()
        return loss

    others = [shard_of(model, partial(loss_of, shard=k)) for k in range(1, shards)]
    fit("line", model, partial(loss_of, model), PLAN, tmp_path / "parts", lambda line: None, others)
    torch.manual_seed(0)
    alone = nn.Linear(3, 2)
    whole = partial(loss_of, alone)
    fit(
        "line",
        alone,
        lambda step: sum(whole(step, k) for k in range(shards)) / shards,
        PLAN,
        tmp_path / "one",
        lambda line: None,
    )
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, atol=1e-6, rtol=1e-5)
    assert all(p.grad is None for other in others for p in other.model.parameters())
