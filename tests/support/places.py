"""Where things lie that tests read."""

from __future__ import annotations

from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
TESTS = SUPPORT.parent
ROOT = TESTS.parent
STUDIES = ROOT / "studies"
DASHBOARDS = ROOT / "dashboards"
LISTS = SUPPORT / "lists"
GOLDEN = SUPPORT / "golden"
FIRST_FORMAT = SUPPORT / "first_format"
"""A home of six drawn images that promptlab wrote with journals of format 1."""
SHARED = ROOT.parent / "shared"
"""Beside the project where it is developed; absent elsewhere, and tests that read it skip."""
BENCHMARKS = SHARED / "benchmarks"
