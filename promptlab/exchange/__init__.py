"""Images, prompts and ratings from and to other programs: imports, exports, A1111, ComfyUI, human ratings."""
