"""Diffusion models: loading, text encoding, guidance, batches, attention, and how long all of it takes."""
