"""Data quality: what is not in the averages, and why."""

from __future__ import annotations

import streamlit as st

from frame import begin, how_to, rows, table
from listing import listing

frame = begin("Data quality", "What is not in the averages, and why?")
done = table("completeness", frame.study)
one = frame.facts
columns = st.columns(3)
columns[0].metric("pictures in the averages", f"{int(one['ok']):,} of {int(one['planned']):,}")
columns[1].metric("failed", f"{int(one['failed']):,}", help="made, but blank, NaN, refused or broken")
columns[2].metric("missing", f"{int(one['missing']):,}")
listing(done)
if one["failed"]:
    st.caption("Make again whatever did not end ok:")
    how_to("run", frame.study, " --retry")
st.header("What could not be measured", anchor=False)
gaps = rows(
    """
    SELECT probe, measure, reason, count(*) AS n FROM scored
    WHERE study = ? AND status = 'ok' AND value IS NULL AND label IS NULL GROUP BY ALL ORDER BY n DESC LIMIT 200
    """,
    [frame.study],
)
if len(gaps):
    st.caption("A probe that cannot tell says so; such a picture is in no mean of that measure, and never counts as 0.")
    listing(gaps)
else:
    st.success("Every measure has a value for every picture.")
damage = rows("SELECT * FROM damage")
if len(damage):
    st.header("Damaged journals", anchor=False)
    listing(damage)
    st.code("promptlab doctor\npromptlab rebuild", language=None)
st.header("What decided the pictures", anchor=False)
facts = rows(
    """
    SELECT name, any_value(value) AS value, count(DISTINCT value) AS versions FROM fact
    JOIN run ON run.id = fact.run WHERE run.study = ? GROUP BY name ORDER BY name LIMIT 300
    """,
    [frame.study],
)
changed = facts[facts["versions"] > 1]
if len(changed):
    st.warning("These changed between the runs of this study, so its pictures were not all made alike.")
    listing(changed)
with st.expander("All facts of its runs"):
    listing(facts)
