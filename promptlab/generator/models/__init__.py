"""Diffusion models: loading, text encoding, guidance, batches, attention, and speed."""
