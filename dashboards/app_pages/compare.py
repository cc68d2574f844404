"""Compare: two cells at the same seeds, the words that differ, and which probe says what."""

from __future__ import annotations

import difflib
from html import escape

import streamlit as st

from frame import begin, choose_family, part, rows
from gallery import matrix, picture_html, turning
from listing import listing
from promptlab.results.queries import preferred_probe

FEW = 1000  # cells to choose from, of one family five times as many: of more, a browser grows slow
frame = begin("Compare", "Which of these two is better, and why?")


def marked(words: list[str], other: list[str], colour: str) -> str:
    """The words of one prompt, those that the other has not marked."""
    out = []
    for tag, i, j, _, _ in difflib.SequenceMatcher(None, words, other, autojunk=False).get_opcodes():
        part = escape(" ".join(words[i:j]))
        mark = f'<mark style="background: transparent; color: inherit; border-bottom: 3px solid {colour}">{part}</mark>'
        out.append(part if tag == "equal" else mark if part else "")
    return " ".join(piece for piece in out if piece)


@part
def side_by_side(study: str, tier: str) -> None:
    """Two cells that can be chosen, their pictures, and what the probes say."""

    def other_cells() -> None:
        """Of another family other cells are compared."""
        for side in ("a", "b"):
            st.session_state.pop(side, None)

    group = choose_family(st, study, other_cells)
    cells = rows(
        """
        SELECT cell.id AS cell, cell.prompt, cell.position, cell.guidance_scale, cell.num_inference_steps, cell.model,
            count(image.id) AS made
        FROM cell JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
        JOIN image ON image.id = cell_image.image AND image.file IS NOT NULL
        WHERE cell.study = ? AND cell.current AND cell.prompt_group = coalesce(?, cell.prompt_group)
        GROUP BY ALL ORDER BY cell.position LIMIT ?
        """,
        [study, group, 5 * FEW if group else FEW],
    )
    if len(cells) < 2:
        st.info("There are not two cells with pictures yet.")
        return
    names = {
        row.cell: f"{row.prompt}  (w = {row.guidance_scale:g})"
        if row.guidance_scale == row.guidance_scale
        else row.prompt
        for row in cells.itertuples()
    }

    def named(cell: str) -> str:
        """A cell by its prompt and guidance."""
        return names.get(cell, cell)

    if group is None and len(cells) == FEW:
        st.caption(f"Of all families these are the first {FEW:,} cells; of one family there are all.")
    left, right = st.columns(2)
    a = left.selectbox("A", list(names), index=0, format_func=named, key="a", bind="query-params")
    other = next((i for i, prompt in enumerate(cells["prompt"]) if prompt != cells["prompt"].iloc[0]), 1)
    b = right.selectbox("B", list(names), index=other, format_func=named, key="b", bind="query-params")
    keys = list(names)

    def other_b(by: int) -> None:
        """Go on to the next cell on the right side, round the end; one that equals A is passed over."""
        at = keys.index(st.session_state["b"]) if st.session_state.get("b") in keys else other
        step = at + by
        while keys[step % len(keys)] == st.session_state.get("a", keys[0]):
            step += by
        st.session_state["b"] = keys[step % len(keys)]

    def exchange() -> None:
        """A becomes B."""
        st.session_state["a"], st.session_state["b"] = b, a

    with st.container(horizontal=True):
        turning("Previous B", "Left", "the cell before on the right side", other_b, -1, "compare")
        turning("Next B", "Right", "the cell after on the right side", other_b, 1, "compare")
        st.button("Exchange", shortcut="x", help="A becomes B; key: x", on_click=exchange)
    first, second = (cells[cells["cell"] == one].iloc[0] for one in (a, b))

    words = [str(one["prompt"]).split() for one in (first, second)]
    left.html(f"<p>{marked(words[0], words[1], '#D55E00')}</p>")
    right.html(f"<p>{marked(words[1], words[0], '#0072B2')}</p>")
    pairs = rows(
        """
        SELECT cell_image.cell_id AS cell, cell_image.seed, image.id AS image, image.file, image.prompt
        FROM cell_image JOIN image ON image.id = cell_image.image
        WHERE cell_image.study = ? AND cell_image.cell_id IN (?, ?) AND image.file IS NOT NULL
        ORDER BY cell_image.seed LIMIT 120
        """,
        [study, a, b],
    )
    judged = rows(
        """
        SELECT cell_id AS cell, seed, probe, label FROM scored
        WHERE study = ? AND cell_id IN (?, ?) AND status = 'ok' AND measure = 'correct' AND label IS NOT NULL
        ORDER BY ALL
        """,
        [study, a, b],
    )
    judged = judged[judged["probe"] == preferred_probe(judged["probe"])]
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
    scores = rows(
        """
        WITH told AS (
            SELECT measure, target, cell_id, fsum(total) / sum(with_value) AS mean, sum(with_value)::BIGINT AS n
            FROM cell_score WHERE study = $1 AND cell_id IN ($2, $3) GROUP BY ALL
        )
        SELECT told.measure, told.target, any_value(measure.higher_is_better) AS higher_is_better,
            any_value(told.mean) FILTER (told.cell_id = $2) AS a, any_value(told.mean) FILTER (told.cell_id = $3) AS b,
            coalesce(any_value(told.n) FILTER (told.cell_id = $2), 0) AS n_a,
            coalesce(any_value(told.n) FILTER (told.cell_id = $3), 0) AS n_b
        FROM told LEFT JOIN measure ON measure.name = told.measure GROUP BY ALL ORDER BY ALL
        """,
        [study, a, b],
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
    st.header("What the probes say", anchor=False)
    st.caption(
        f"Means over {len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'} of one prompt each, {tier}: a look, not a "
        "test. Contrasts over many prompts, with intervals, are on the page Winning prompts."
    )
    listing(
        scores[["measure", "target", "a", "b", "difference", "better", "n_a", "n_b"]],
        {"a": "mean of A", "b": "mean of B", "difference": "B less A"},
    )


side_by_side(frame.study, frame.tier)
