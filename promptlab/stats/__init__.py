"""Statistics of paired prompt studies: effects with intervals, calibration of probes, power, mixed models."""
