"""A package outside promptlab: a backend that draws stripes, a probe of how sharp they are, and a finding.

The truth is known. Bright stripes have guidance_scale / 10 of full light, and lie beside black ones. An image at
guidance 5 therefore has the sharpness 0.5, up to rounding to 255 levels.
"""
