"""A throw-away head that teaches a network what stands where: it names the noun of every place, as the label maps do.

It serves the CLIP towers (silhouettes) and the denoiser (which noun the text wants drawn here), and leaves with the
training. Pixels alone say little of shapes: a noun wrongly drawn in the right colour costs hardly any squared error.

Ours. Supervision of a middle stage follows Lee et al. 2015, Deeply-Supervised Nets (arXiv 1409.5185); that a denoiser
learns many times faster so, Yu et al. 2024, Representation Alignment for Generation (arXiv 2410.06940).
"""

from __future__ import annotations

from typing import Any

from promptlab.miniature.pool import CELLS, LABELS

__all__ = ["places_head"]


def places_head(stage: Any, channels: int) -> Any:
    """A module that listens to what `stage` puts out, (n, channels, h, w), until its `leave()`.

    Its `loss(labels)` is the cross-entropy of `labels`, uint8 (n, 32, 32), for the n rows that went by last: of all
    places, and once more of those where a thing is.
    """
    import torch
    from torch import Tensor, nn
    from torch.nn.functional import cross_entropy, interpolate

    class Places(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.name = nn.Conv2d(channels, 1 + len(LABELS), 1)
            self._seen = torch.empty(0)
            self._hook = stage.register_forward_hook(self._listen)

        def _listen(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            self._seen = output

        def loss(self, labels: Tensor) -> Tensor:
            logits = interpolate(self.name(self._seen).float(), size=(CELLS, CELLS), mode="bilinear")
            each = cross_entropy(logits, labels.long(), reduction="none")
            return each.mean() + each[labels > 0].mean()

        def leave(self) -> None:
            self._hook.remove()

    return Places()
