"""The winner's recipe for A1111 and ComfyUI: what is written is read back, and what cannot be said is said."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image as Pillow
from PIL import PngImagePlugin

import promptlab
import shown_home
from promptlab.cli import main
from promptlab.errors import PromptlabError
from promptlab.exchange.a1111_comfyui import AXES, a1111, comfyui, named_elsewhere
from promptlab.exchange.export import FORMATS, export_winner, plot_axes, winner, written
from promptlab.exchange.image_metadata import Notes, read_notes
from promptlab.results import Results, open_demo

RECIPE: dict[str, Any] = {
    **{"backend": "diffusion", "model": "runwayml/stable-diffusion-v1-5@abc", "prompt": "a red cup and a blue chair"},
    **{"seed": 7, "guidance_scale": 5.5, "num_inference_steps": 25, "width": 512, "height": 512, "scheduler": None},
    "negative_prompt": "blurry, bad",
}
EULER = named_elsewhere("EulerDiscreteScheduler", {"timestep_spacing": "linspace"})
THEIR_FACT = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""How A1111 reads its facts (modules/infotext_utils.py)."""


def noted(tmp_path: Path, **chunks: str) -> Notes:
    """What is read from a picture that carries the text."""
    info = PngImagePlugin.PngInfo()
    for name, text in chunks.items():
        info.add_itxt(name, text)
    path = tmp_path / "noted.png"
    Pillow.new("RGB", (1, 1)).save(path, pnginfo=info)
    notes = read_notes(path)
    assert notes is not None
    return notes


def one_line(text: str) -> str:
    return " ".join(text.splitlines()).strip()


def test_hostile_prompts_come_back_from_both(tmp_path: Path) -> None:
    for text, negative in zip(shown_home.CORPUS, reversed(shown_home.CORPUS), strict=True):
        recipe = {**RECIPE, "prompt": text, "negative_prompt": negative}
        block = noted(tmp_path, parameters=a1111(recipe, EULER, {"guidance_scale": ["1", "5.5"]}).text)
        graph = noted(tmp_path, prompt=comfyui(recipe, EULER).text)
        assert (block.tool, graph.tool) == ("A1111", "ComfyUI")
        read = re.sub(r"\\(.)", r"\1", block.prompt), re.sub(r"\\(.)", r"\1", block.settings["negative_prompt"])
        assert read == (one_line(text), one_line(negative))
        assert re.sub(r"\\([()])", r"\1", graph.prompt) == text.strip()
        assert re.sub(r"\\([()])", r"\1", graph.settings["negative_prompt"]).strip() == negative.strip()
        for notes in (block, graph):
            assert notes.seed == 7 and notes.settings["num_inference_steps"] == 25
            assert notes.settings["guidance_scale"] == 5.5
        assert block.settings["scheduler"] == "Euler" and graph.settings["scheduler"] == "euler normal"


def test_weights_are_escaped_and_said(tmp_path: Path) -> None:
    recipe = {**RECIPE, "prompt": "a (red:1.5) cup [small] AND a dog"}
    block, graph = a1111(recipe, EULER), comfyui(recipe, EULER)
    assert r"a \(red:1.5\) cup \[small\] AND a dog" in block.text
    assert any("escaped" in said for said in block.unsaid) and any("AND" in said for said in block.unsaid)
    assert json.loads(graph.text)["6"]["inputs"]["text"] == r"a \(red:1.5\) cup [small] AND a dog"
    assert not any("escaped" in said for said in a1111(RECIPE, EULER).unsaid)
    with pytest.raises(PromptlabError, match="negative prompt"):
        a1111({**RECIPE, "prompt": "Negative prompt: a cup"}, EULER)


def plot(text: str) -> dict[str, list[str]]:
    """The axes of an X/Y/Z plot as A1111 reads them: facts by its pattern, values by its CSV."""
    facts = dict(THEIR_FACT.findall(text.splitlines()[-1]))
    axes = {}
    for letter in "XYZ":
        if f"{letter} Type" in facts:
            given = facts[f"{letter} Values"]
            values = json.loads(given) if given.startswith('"') else given
            axes[facts[f"{letter} Type"]] = [cell.strip() for row in csv.reader(io.StringIO(values)) for cell in row]
    assert not axes or facts["Script"] == "X/Y/Z plot"
    return axes


def test_the_plot_is_what_the_study_varies() -> None:
    prompts = ["a red cup and a blue chair", 'a cup, "red", and (a) chair: blue', "a chair"]
    axes = {"prompt": prompts, "guidance_scale": ["1", "5.5"], "num_inference_steps": ["10", "25"], "seed": ["0", "1"]}
    block = a1111(RECIPE, EULER, axes)
    read = plot(block.text)
    assert [re.sub(r"\\(.)", r"\1", one) for one in read.pop("Prompt S/R")] == prompts
    assert read == {"CFG Scale": ["1", "5.5"], "Steps": ["10", "25"]}
    assert "an X/Y/Z plot has three axes: seed is left out" in block.unsaid
    assert plot(a1111(RECIPE, EULER, {"seed": ["0"]}).text) == {}
    assert "X/Y/Z" not in a1111(RECIPE, EULER).text


def test_the_graph_holds_together() -> None:
    graph = json.loads(comfyui(RECIPE, EULER).text)
    kinds = [node["class_type"] for node in graph.values()]
    assert sorted(kinds) == sorted(
        ["CheckpointLoaderSimple", "EmptyLatentImage", "KSampler", "VAEDecode", "SaveImage", *2 * ["CLIPTextEncode"]]
    )
    links = [value for node in graph.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert len(links) == 9 and all(number in graph and isinstance(output, int) for number, output in links)
    assert graph["4"]["inputs"]["ckpt_name"] == "stable-diffusion-v1-5.safetensors"
    told = named_elsewhere("DDIMScheduler", {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True})
    graph = json.loads(comfyui(RECIPE, told).text)
    assert graph["10"]["inputs"] == {"model": ["4", 0], "sampling": "v_prediction", "zsnr": True}
    assert graph["3"]["inputs"]["model"] == ["10", 0]


@pytest.mark.parametrize(
    ("change", "pipeline", "said"),
    [
        ({}, "FluxPipeline", "this is FluxPipeline"),
        ({"backend": "hosted", "model": "openai:gpt-image-1"}, None, "a closed system"),
        ({"guidance_scale": None, "seed": None}, None, "needs seed, guidance_scale"),
    ],
)
def test_what_no_graph_can_be_written_for(change: Mapping[str, Any], pipeline: str | None, said: str) -> None:
    with pytest.raises(PromptlabError, match=said):
        comfyui({**RECIPE, **change}, EULER, pipeline)


@pytest.mark.parametrize(
    ("name", "config", "names"),
    [
        ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "linspace"}, "Euler a|Uniform|euler_ancestral|normal"),
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": "true"}, "DPM++ 2M|Karras|dpmpp_2m|karras"),
        ("DPMSolverMultistepScheduler", {"solver_order": 3, "timestep_spacing": "linspace"}, "||None|normal"),
        (
            "DPMSolverMultistepScheduler",
            {"algorithm_type": "sde-dpmsolver++", "timestep_spacing": "trailing"},
            "DPM++ 2M SDE|Simple|dpmpp_2m_sde|simple",
        ),
        ("DDIMScheduler", {"timestep_spacing": "leading"}, "DDIM||ddim|ddim_uniform"),
        ("PNDMScheduler", {"skip_prk_steps": True, "timestep_spacing": "leading"}, "PLMS||None|ddim_uniform"),
        ("UniPCMultistepScheduler", {"solver_type": "bh2", "timestep_spacing": "linspace"}, "UniPC||uni_pc_bh2|normal"),
        ("TCDScheduler", {"timestep_spacing": "leading"}, "||None|ddim_uniform"),
        (None, {}, "||None|None"),
    ],
)
def test_schedulers_have_their_names_or_none(name: str | None, config: Mapping[str, Any], names: str) -> None:
    found = named_elsewhere(name, config)
    said = f"{found.sampler or ''}|{found.schedule_type or ''}|{found.sampler_name}|{found.scheduler}"
    assert said == names
    assert bool(found.unsaid["comfyui"]) == (found.sampler_name is None)
    if found.sampler_name is None:
        graph = comfyui(RECIPE, found)
        assert "euler and normal stand in for what has no name" in graph.unsaid
        assert json.loads(graph.text)["3"]["_meta"]["unsaid"] == list(graph.unsaid)


def their_places(kind: str, steps: int, n: int = 1000) -> list[int]:
    """Where ComfyUI puts the steps (comfy/samplers.py), as indices of a discrete model's n noise levels."""
    if kind == "simple":
        return [n - 1 - int(i * n / steps) for i in range(steps)]
    if kind == "ddim_uniform":
        return list(range(1, n, max(n // steps, 1)))[::-1]
    return [round((n - 1) * (1 - i / (steps - 1))) for i in range(steps)]


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
def test_the_steps_lie_where_diffusers_puts_them(spacing: str) -> None:
    from diffusers import DDIMScheduler

    own = DDIMScheduler(timestep_spacing=spacing, steps_offset=1)
    there = named_elsewhere("DDIMScheduler", dict(own.config)).scheduler
    for steps in (4, 20, 25, 50):
        own.set_timesteps(steps)
        ours, theirs = own.timesteps.tolist(), their_places(str(there), steps)
        assert len(ours) == len(theirs) and max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) <= 1


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Results:
    store = open_demo(tmp_path_factory.mktemp("demo"))
    assert store is not None
    loaded: Results = promptlab.load("demo", store.home.path)
    return loaded


def test_the_winner_is_the_first_of_the_ranking(demo: Results) -> None:
    won = winner(demo, "correct", "guidance_scale")
    first, second = demo.ranking("correct", "guidance_scale").iloc[:2].to_dict("records")
    assert (won.place["level"], won.place["mean"], won.place["n"]) == (first["level"], first["mean"], first["n"])
    assert won.lead is not None and won.lead[0] == pytest.approx(second["behind"])
    assert won.recipe["guidance_scale"] == float(first["level"]) and won.pipeline == "StableDiffusionPipeline"
    best = demo.images(where={"guidance_scale": first["level"], "seed": won.recipe["seed"]}, measures=["correct"])
    assert best[best["prompt"] == won.recipe["prompt"]]["correct"].max() == 1
    assert "not shown to be ahead" in won.says() and "n 32, tier T1" in won.says()


def test_lower_is_better_where_the_measure_says_so(demo: Results) -> None:
    won = winner(demo, "exposure.clipped_share", "guidance_scale")
    values = demo.images({"guidance_scale": won.place["level"]}, order="clipped_share", measures=["clipped_share"])
    assert won.place["level"] == "1" and won.recipe["prompt"] == values["prompt"].iloc[0]


def test_the_winner_of_the_demo_in_both_programs(demo: Results, tmp_path: Path) -> None:
    won = winner(demo)
    assert won.measure == "accuracy" and won.axis is None and won.place["level"] == won.recipe["prompt"]
    block, graph = written(demo, won, "a1111"), written(demo, won, "comfyui")
    axes = plot(block.text)
    assert axes["CFG Scale"] == demo.axes()["guidance_scale"] == plot_axes(demo)["guidance_scale"]
    family = demo.sql(
        """
        SELECT DISTINCT prompt FROM cell
        WHERE prompt_group = (SELECT any_value(prompt_group) FROM cell WHERE prompt = ?)
        """,
        [won.recipe["prompt"]],
    )
    assert set(axes[AXES["prompt"]]) == set(family["prompt"]) and axes[AXES["prompt"]][0] == won.recipe["prompt"]
    for notes in (noted(tmp_path, parameters=block.text), noted(tmp_path, prompt=graph.text)):
        assert notes.prompt == won.recipe["prompt"] and notes.seed == won.recipe["seed"]
        assert notes.settings["guidance_scale"] == won.recipe["guidance_scale"]
    assert notes.settings["scheduler"] == "ddim simple" and json.loads(graph.text)["10"]["inputs"]["zsnr"] is True
    assert any("leading, not trailing" in said for said in block.unsaid)


def test_the_command(
    demo: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*more: str) -> tuple[str, Any]:
        asked = ["export", "demo", "--home", str(demo.store.home.path), "--to", str(tmp_path), *more]
        monkeypatch.setattr("sys.argv", ["promptlab", *asked])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return said.out + said.err, end.value.code or 0

    said, code = told("--as", "comfyui", "--axis", "guidance_scale")
    path = tmp_path / "demo.winner.comfyui.json"
    assert code == 0 and "'5' leads" in said and "not said in it" in said and path.name in said
    assert json.loads(path.read_text("utf-8"))["3"]["inputs"]["cfg"] == 5.0
    assert told("--as", "csv", "--axis", "order")[1] == 1
    said, code = told("--as", "a1111", "--measure", "accurracy")
    assert code == 1 and "did you mean" in said and len(said.splitlines()) == 1
    said, code = told("--as", "a1111", "--axis", "orders")
    assert code == 1 and "did you mean 'order'" in said


def test_a_file_that_cannot_be_written_is_one_line(demo: Results, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(PromptlabError, match="taken"):
        export_winner(demo, tmp_path / "taken", "a1111")


def test_no_cell_of_the_corpus_is_a_formula_in_csv(tmp_path: Path) -> None:
    more = ["x\r=1+1", " =1+1", "\u00a0@SUM(1)", "\uff1d1+1", "\uff20x", "\x00=1", "-1", "a=b"]
    texts = [*shown_home.CORPUS, *more]
    path = tmp_path / "corpus.csv"
    FORMATS["csv"](pd.DataFrame({"prompt": texts, "=axis": texts[::-1], "value": -1.5}), path)
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["prompt", "'=axis", "value"] and len(rows) == len(texts)
    risky = 0
    for (first, second, value), text in zip(rows, texts, strict=True):
        assert first.removeprefix("'") in (text, text.removeprefix("'")) and value == "-1.5"
        for cell in (first, second):
            assert cell[:1] >= " " and not cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d", "\uff20"))
        risky += first.startswith("'")
    assert risky >= 20
    raw = path.read_bytes().decode("utf-8")
    assert '"x\r=1+1"' in raw, "a cell with a line break is quoted, else its second line would stand alone"
