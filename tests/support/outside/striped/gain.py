"""The finding: what one step of guidance adds to sharpness. Its interface is that of `promptlab/results/findings`."""

from __future__ import annotations

kind = "finding"
