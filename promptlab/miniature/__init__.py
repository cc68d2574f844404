"""The miniature: a small latent-diffusion world whose truth is known, because promptlab draws it."""
