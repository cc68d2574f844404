"""The script of the dashboard: which pages it has, in which order. A page is a file in `app_pages/` and a line here."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from promptlab.store.database import opened_once

FOLDER = Path(__file__).with_name("app_pages")
SECTIONS = {
    "Look": [
        ("studies", "Studies", ":material/science:"),
        ("monitor", "Run monitor", ":material/monitor_heart:"),
        ("grid", "Grid", ":material/grid_on:"),
        ("compare", "Compare", ":material/compare:"),
        ("detail", "Image detail", ":material/image_search:"),
    ],
    "Learn": [
        ("ranking", "Winning prompts", ":material/trophy:"),
        ("bleeding", "Bleeding map", ":material/water_drop:"),
        ("order", "Word order", ":material/swap_horiz:"),
        ("length", "Specificity and length", ":material/straighten:"),
        ("guidance", "CFG", ":material/tune:"),
        ("claims", "Claims", ":material/gavel:"),
    ],
    "Trust": [
        ("passports", "Passports", ":material/verified:"),
        ("quality", "Data quality", ":material/fact_check:"),
    ],
    "Do": [
        ("prompt_doctor", "Prompt doctor", ":material/stethoscope:"),
        ("blind_rating", "Blind rating", ":material/visibility_off:"),
        ("export", "Export", ":material/download:"),
    ],
}
"""By section: the file of each page, which is its address too, its title and its icon."""

st.set_page_config(page_title="promptlab", page_icon=str(FOLDER.with_name("icon.png")), layout="wide")
navigation = st.navigation(
    {
        section: [
            st.Page(FOLDER / f"{name}.py", title=title, icon=icon, url_path=name, default=name == "studies")
            for name, title, icon in entries
        ]
        for section, entries in SECTIONS.items()
    },
    expanded=True,
)
with opened_once():
    navigation.run()
