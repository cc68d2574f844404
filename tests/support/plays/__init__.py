"""Backends for tests that need a process of their own, under a dotted name."""
