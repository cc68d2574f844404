"""The parts of the model card that are measured: a contact sheet of fresh prompts, and the table of gates."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

from promptlab.gates import Report, asked_scenes, load_pipeline, sample

__all__ = ["contact_sheet", "gates_table", "write_card"]

BEGIN, END = "<!-- gates: written by `promptlab miniature card` -->", "<!-- end of gates -->"


def contact_sheet(folder: Path, out: Path, report: Report, rows: int = 8) -> None:
    """Draw `rows` x 8 pictures with their prompts below, a third of them of one thing, the rest of two, as a PNG."""
    from PIL import Image, ImageDraw, ImageFont

    n = rows * 8
    single = n // 3
    asked = asked_scenes(single, 1, "train", 70_000_000) + asked_scenes(n - single, 2, "train", 80_000_000)
    pictures = sample(load_pipeline(folder), [a.text for a in asked], list(range(n)), report, "contact sheet")
    side, strip = pictures.shape[1], 34
    sheet = Image.new("RGB", (8 * side, rows * (side + strip)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for i, (a, picture) in enumerate(zip(asked, pictures, strict=True)):
        x, y = i % 8 * side, i // 8 * (side + strip)
        sheet.paste(Image.fromarray(picture), (x, y))
        text = "\n".join(textwrap.wrap(a.text, 25)[:3])
        draw.multiline_text((x + 3, y + side + 1), text, fill="black", font=font, spacing=0)
    sheet.quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)


def gates_table(measured: Path) -> str:
    """The gates in `measured` (JSON of `promptlab miniature evaluate --out`) as a Markdown table."""
    data = json.loads(measured.read_text())
    lines = ["| gate | measured | 95 % interval | n | wanted | met |", "|---|---|---|---|---|---|"]
    for g in data["gates"]:
        met = "" if g["met"] is None else "yes" if g["met"] else "**no**"
        interval = f"{g['low']:.1%} to {g['high']:.1%}"
        measured_rate = "no picture" if g["rate"] is None else f"{g['rate']:.1%}"
        lines.append(f"| {g['name']} | {measured_rate} | {interval} | {g['n']} | {g['wanted']} | {met} |")
    figures = data["figures"]
    lines += ["", ", ".join(f"{k.replace('_', ' ')}: {v}" for k, v in figures.items()) + "."]
    return "\n".join(lines)


def write_card(folder: Path) -> None:
    """Put the table of `folder/gates.json` between the marks of `folder/README.md`."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    path.write_text(f"{head}{BEGIN}\n{gates_table(folder / 'gates.json')}\n{END}{tail}", encoding="utf-8")
