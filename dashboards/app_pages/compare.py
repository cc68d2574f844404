"""Compare: two cells at the same seeds, the words that differ, and which probe says what."""

from __future__ import annotations

import difflib
from html import escape

import streamlit as st
from frame import begin, rows
from gallery import matrix, picture_html

frame = begin("Compare", "Which of these two is better, and why?")
cells = rows(
    """
    SELECT cell.id AS cell, cell.prompt, cell.position, cell.guidance_scale, cell.num_inference_steps, cell.model,
        count(image.id) AS made
    FROM cell JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
    JOIN image ON image.id = cell_image.image AND image.file IS NOT NULL
    WHERE cell.study = ? AND cell.current GROUP BY ALL ORDER BY cell.position LIMIT 5000
    """,
    [frame.study],
)
if len(cells) < 2:
    st.info("There are not two cells with pictures yet.")
    st.stop()
names = {
    row.cell: f"{row.prompt}  (w = {row.guidance_scale:g})" if row.guidance_scale == row.guidance_scale else row.prompt
    for row in cells.itertuples()
}


def named(cell: str) -> str:
    """A cell by its prompt and guidance."""
    return names.get(cell, cell)


left, right = st.columns(2)
a = left.selectbox("A", list(names), index=0, format_func=named, key="a", bind="query-params")
other = next((i for i, prompt in enumerate(cells["prompt"]) if prompt != cells["prompt"].iloc[0]), 1)
b = right.selectbox("B", list(names), index=other, format_func=named, key="b", bind="query-params")
first, second = (cells[cells["cell"] == one].iloc[0] for one in (a, b))


def marked(words: list[str], other: list[str], colour: str) -> str:
    """The words of one prompt, those that the other has not marked."""
    out = []
    for tag, i, j, _, _ in difflib.SequenceMatcher(None, words, other, autojunk=False).get_opcodes():
        part = escape(" ".join(words[i:j]))
        mark = f'<mark style="background: transparent; color: inherit; border-bottom: 3px solid {colour}">{part}</mark>'
        out.append(part if tag == "equal" else mark if part else "")
    return " ".join(piece for piece in out if piece)


words = [str(one["prompt"]).split() for one in (first, second)]
left.html(f"<p>{marked(words[0], words[1], '#D55E00')}</p>")
right.html(f"<p>{marked(words[1], words[0], '#0072B2')}</p>")
pairs = rows(
    """
    SELECT cell_image.cell_id AS cell, cell_image.seed, image.id AS image, image.file, image.prompt,
        (SELECT any_value(label) FROM scored s WHERE s.study = cell_image.study AND s.cell_id = cell_image.cell_id
            AND s.seed = cell_image.seed AND s.measure = 'correct') AS outcome
    FROM cell_image JOIN image ON image.id = cell_image.image AND image.file IS NOT NULL
    WHERE cell_image.study = ? AND cell_image.cell_id IN (?, ?) ORDER BY cell_image.seed LIMIT 120
    """,
    [frame.study, a, b],
)
seeds = [f"seed {seed}" for seed in dict.fromkeys(pairs["seed"])]
html = {
    (f"seed {row.seed}", "A" if row.cell == a else "B"): picture_html(row, frame.study, outcome, "medium")
    for row, outcome in zip(pairs.itertuples(), pairs["outcome"].fillna(""), strict=True)
}
if a == b:
    html |= {(seed, "B"): html[(seed, "A")] for seed in seeds}
st.caption("The same seed is the same initial noise.")
matrix(html, seeds[:12], ["A", "B"], "")
scores = rows(
    """
    SELECT measure, target, avg(value) FILTER (cell_id = ?) AS a, avg(value) FILTER (cell_id = ?) AS b,
        count(value) FILTER (cell_id = ?) AS n_a, count(value) FILTER (cell_id = ?) AS n_b,
        any_value(higher_is_better) AS higher_is_better
    FROM scored WHERE study = ? AND cell_id IN (?, ?) AND status = 'ok' GROUP BY ALL ORDER BY measure, target
    """,
    [a, b, a, b, frame.study, a, b],
)
scores["difference"] = scores["b"] - scores["a"]
scores["better"] = [
    "" if d != d or h is None or d == 0 else "B" if (d > 0) == bool(h) else "A"
    for d, h in zip(
        scores["difference"],
        scores["higher_is_better"].astype(object).where(scores["higher_is_better"].notna(), None),
        strict=True,
    )
]
st.subheader("What the probes say", anchor=False)
st.caption(
    f"Means over {len(seeds)} seeds of one prompt, {frame.tier}: a look, not a test. Contrasts over many prompts, with "
    "intervals, are on the page Winning prompts."
)
number = st.column_config.NumberColumn(format="%.3g")
st.dataframe(
    scores[["measure", "target", "a", "b", "difference", "better", "n_a", "n_b"]],
    hide_index=True,
    width="stretch",
    column_config={"a": number, "b": number, "difference": number},
)
