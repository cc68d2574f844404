"""Compare: two cells at the same seeds, the words that differ, and what each probe says."""

from __future__ import annotations

import difflib
from html import escape

import pandas as pd
import streamlit as st

from gallery import matrix, picture_html, step_button
from page import begin, cached, choose_family, fragment
from promptlab.results import pages
from tables import show_table

MAX_CELLS = 1000
"""Cells to choose from, of one family five times as many: with more, a browser grows slow."""
page = begin("Compare", "Which of these two is better, and why?")


def marked(words: list[str], other: list[str], colour: str) -> str:
    """The words of one prompt, those that the other has not marked."""
    out = []
    for tag, i, j, _, _ in difflib.SequenceMatcher(None, words, other, autojunk=False).get_opcodes():
        part = escape(" ".join(words[i:j]))
        mark = f'<mark style="background: transparent; color: inherit; border-bottom: 3px solid {colour}">{part}</mark>'
        out.append(part if tag == "equal" else mark if part else "")
    return " ".join(piece for piece in out if piece)


@fragment
def side_by_side(study: str, tier: str) -> None:
    """Two cells that can be chosen, their images, and what the probes say."""

    def reset_cells() -> None:
        """Choose anew: another family has other cells."""
        for side in ("a", "b"):
            st.session_state.pop(side, None)

    group = choose_family(st.container(), study, reset_cells)
    cells = cached(pages.cells_with_images, study, group, 5 * MAX_CELLS if group else MAX_CELLS)
    if len(cells) < 2:
        st.info("There are not two cells with pictures yet.")
        return
    names = {
        str(cell): str(prompt) if pd.isna(guidance) else f"{prompt}  (w = {guidance:g})"
        for cell, prompt, guidance in zip(cells["cell"], cells["prompt"], cells["guidance_scale"], strict=True)
    }

    def named(cell: str) -> str:
        """A cell by its prompt and guidance."""
        return names.get(cell, cell)

    if group is None and len(cells) == MAX_CELLS:
        st.caption(f"Of all families these are the first {MAX_CELLS:,} cells; of one family there are all.")
    left, right = st.columns(2)
    a = left.selectbox("A", list(names), index=0, format_func=named, key="a", bind="query-params")
    other = next((i for i, prompt in enumerate(cells["prompt"]) if prompt != cells["prompt"].iloc[0]), 1)
    b = right.selectbox("B", list(names), index=other, format_func=named, key="b", bind="query-params")
    keys = list(names)

    def other_b(by: int) -> None:
        """Move to another cell on the right side, past the end to the start; skip the cell that is A."""
        at = keys.index(st.session_state["b"]) if st.session_state.get("b") in keys else other
        step = at + by
        while keys[step % len(keys)] == st.session_state.get("a", keys[0]):
            step += by
        st.session_state["b"] = keys[step % len(keys)]

    def exchange() -> None:
        """A becomes B."""
        st.session_state["a"], st.session_state["b"] = b, a

    with st.container(horizontal=True):
        step_button("Previous B", "Left", "the cell before on the right side", other_b, -1, "compare")
        step_button("Next B", "Right", "the cell after on the right side", other_b, 1, "compare")
        st.button("Exchange", shortcut="x", help="A becomes B; key: x", on_click=exchange)
    first, second = (cells[cells["cell"] == one].iloc[0] for one in (a, b))

    words = [str(one["prompt"]).split() for one in (first, second)]
    left.html(f"<p>{marked(words[0], words[1], '#D55E00')}</p>")
    right.html(f"<p>{marked(words[1], words[0], '#0072B2')}</p>")
    pairs = cached(pages.images_of_cells, study, a, b)
    judged = cached(pages.cell_outcomes, study, a, b)
    outcomes = dict(zip(zip(judged["cell"], judged["seed"], strict=True), judged["label"], strict=True))
    seeds = [f"seed {seed}" for seed in dict.fromkeys(pairs["seed"])]
    html = {
        (f"seed {row.seed}", "A" if row.cell == a else "B"): picture_html(
            row, study, outcomes.get((row.cell, row.seed), ""), "medium"
        )
        for row in pairs.itertuples()
    }
    if a == b:
        html |= {(seed, "B"): html[(seed, "A")] for seed in seeds}
    st.caption("The same seed is the same initial noise.")
    matrix(html, seeds[:12], ["A", "B"], "cell")
    scores = cached(pages.compared_means, study, a, b)
    scores["difference"] = scores["b"] - scores["a"]
    scores["better"] = [
        "" if d != d or h is None or d == 0 else "B" if (d > 0) == bool(h) else "A"
        for d, h in zip(
            scores["difference"],
            scores["higher_is_better"].astype(object).where(scores["higher_is_better"].notna(), None),
            strict=True,
        )
    ]
    st.header("What the probes say", anchor=False)
    st.caption(
        f"Means over {len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'} of one prompt each, {tier}: a look, not a "
        "test. Contrasts over many prompts, with intervals, are on the page Winning prompts."
    )
    show_table(
        scores[["measure", "target", "a", "b", "difference", "better", "n_a", "n_b"]],
        {"a": "mean of A", "b": "mean of B", "difference": "B less A"},
    )


side_by_side(page.study, page.tier)
