"""Judges: what probes ask about an image (CLIP, the scene parser, detectors, question answering)."""
