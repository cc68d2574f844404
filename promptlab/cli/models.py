"""Commands about models, without an image: what is on this disk, and what a text encoder reads and arranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from promptlab.cli.terminal import HomeOption, JsonOption, console, print_json, size

if TYPE_CHECKING:
    from promptlab.checkpoints.inventory import LocalModel
    from promptlab.results.model_parts import Geometry

__all__ = ["geometry", "lint", "models"]


def models(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Folders, or OWNER/NAME[@REVISION]; by default all on this disk.", show_default=False),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare the hash of every file with the hub's.")] = False,
) -> None:
    """List the models on this disk, and what is missing of them."""
    from promptlab.checkpoints.inventory import inspect_model, models_here
    from promptlab.errors import ModelError

    bad = 0
    stocks: list[LocalModel] = [] if names else list(models_here())
    for name in names or ():
        try:
            stocks.append(inspect_model(name))
        except ModelError as error:  # one that is not here does not hide the others
            console.print(f"{name}: {error}")
            bad += 1
    for stock in stocks:
        console.print(f"{stock.name}: {stock.family}, {size(stock.bytes)}, {_state(stock)}")
        if stock.commit:
            console.print(f"  commit {stock.commit}")
        if stock.complete:
            _print_capability(stock)
        for problem in stock.problems:
            console.print(f"  {problem}")
        if stock.missing:
            console.print(f"  missing: {', '.join(stock.missing)}")
            console.print(f"  to get it: {stock.pull}")
        bad += not stock.complete
        if verify:
            bad += not _verify(stock)
    if names and bad:
        raise ModelError(f"{bad} of these models cannot be trusted to run offline, see above")
    if not names:
        console.print("Next: promptlab plan STUDY --model NAME")


def _verify(stock: LocalModel) -> bool:
    """Print whether the files of a model agree with their hashes; False where one differs."""
    from promptlab.checkpoints.inventory import verify

    found = verify(stock.folder)
    console.print(f"  verified: {found.agree} files agree with their hash, {len(found.differ)} differ")
    if found.unknown:
        console.print(f"  no hash is known of {len(found.unknown)} files, such as {found.unknown[0]}")
    for file in found.differ:
        console.print(f"  DIFFERS: {file}")
    return not found.differ


def _state(stock: LocalModel) -> str:
    state = "complete" if stock.complete else "NOT complete"
    return f"{state}, {'safetensors only' if not stock.pickles else f'{len(stock.pickles)} pickle files, never opened'}"


def _print_capability(stock: LocalModel) -> None:
    """What a model can do, in a line."""
    from promptlab.generator.models.capabilities import capability, defaults_of

    able, defaults = capability(stock.folder), defaults_of(stock.name)
    guidance = {
        "true": "true guidance (guidance_scale)",
        "embedded": "distilled guidance (distilled_guidance_scale)",
        "none": "no guidance",
    }[able.guidance_kind]
    readers = ", ".join(f"{reader.name} {reader.limit} tokens" for reader in able.readers)
    console.print(
        f"  {guidance}; reads {readers}; {defaults.num_inference_steps} steps, {defaults.height} px by "
        f"default, multiples of {able.multiple}; latents of {able.channels} channels, 1/{able.factor} of the size"
    )


def geometry(
    model: Annotated[
        str,
        typer.Option(
            help="miniature, miniature-bag, miniature-scorer, a pipeline, local-dir:/path, an open_clip name."
        ),
    ] = "miniature",
    checkpoint: Annotated[str | None, typer.Option(help="Weights of an open_clip name: a safetensors file.")] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(help="colours, poses or verbs; repeat it for several.", show_default="by the model"),
    ] = None,
    permutations: Annotated[
        int, typer.Option(min=19, max=100_000, help="Permutations for the p-value of the word.")
    ] = 999,
    json_: JsonOption = False,
) -> None:
    """Measure what a text encoder arranges phrases by."""
    from dataclasses import asdict

    from promptlab.results.model_parts import measure_primacy
    from promptlab.results.model_parts import reports as measured

    reports = measured(model, grid, checkpoint, permutations)
    order = measure_primacy(model, checkpoint=checkpoint)
    if json_:
        print_json({"model": model, "grids": [asdict(one) for one in reports], "primacy": order})
        return
    table = Table(show_edge=False, pad_edge=False)
    table.add_column(f"text states of {model}")
    for one in reports:
        g = one.geometry
        state = "pooled" if one.at == "pooled" else "noun's token"
        table.add_column(f"{one.grid}, {state} ({g.n_nouns} x {g.n_words} x {g.n_frames})", justify="right")
    for label, values in _geometry_rows([one.geometry for one in reports]):
        table.add_row(label, *values)
    console.print(table)
    interval = "" if order["low"] is None else f" [{order['low']:+.3f}, {order['high']:+.3f}]"
    console.print(
        f"text primacy {order['mean']:+.3f}{interval} over {order['n']} pairs of things: above 0, the first-named has "
        "more of the pooled state"
    )


def _geometry_rows(found: Sequence[Geometry]) -> list[tuple[str, list[str]]]:
    def say(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    return [
        ("variance by noun", [say(g.partition.noun) for g in found]),
        ("variance by word", [f"{say(g.partition.word)} (p {g.partition.p:.2g})" for g in found]),
        ("variance by noun x word", [say(g.partition.noun_word) for g in found]),
        ("variance by frame", [say(g.partition.frame) for g in found]),
        ("by word within a noun (chance)", [f"{say(g.word_inside)} ({say(g.word_inside_chance)})" for g in found]),
        ("word read off other nouns (chance)", [f"{say(g.probe)} ({say(g.probe_chance)})" for g in found]),
        ("additivity", [say(g.additivity) for g in found]),
        ("silhouette of word within a noun", [say(g.silhouette_inside) for g in found]),
        ("silhouette of word over all", [say(g.silhouette_everywhere) for g in found]),
        ("clusters follow word, noun (ARI)", [f"{say(g.ari_word)}, {say(g.ari_noun)}" for g in found]),
    ]


def lint(
    prompt: Annotated[str, typer.Argument(help="The prompt, in quotes.", show_default=False)],
    model: Annotated[str, typer.Option(help="As in a study: miniature, a folder, or OWNER/NAME.")] = "miniature",
    home: HomeOption = None,
    json_: JsonOption = False,
) -> None:
    """Show what a text encoder reads of a prompt.

    Tokens, words that are cut off, words without effect, and what it confuses.
    """
    from dataclasses import asdict

    from rich.text import Text

    from promptlab.results.lint import advice, verdicts
    from promptlab.results.lint import lint as read
    from promptlab.store import Store

    found = read(prompt, model)
    lines = advice(found, verdicts(Store(home)))
    if json_:
        print_json({**asdict(found), "silent": found.silent, "advice": [{"claim": c, "advice": a} for c, a in lines]})
        return
    for one in found.encoders:
        lost = f"; it does not read: {one.lost}" if one.lost else ""
        console.print(Text(f"{one.encoder}: {one.total} tokens of {one.limit}{lost}"))
    table = Table(show_edge=False, pad_edge=False)
    for name in ("word", "token", "tokens", "read", "reach"):
        table.add_column(name)
    for word in found.words:
        reach = "" if word.reach is None else f"{word.reach:.3f}"
        table.add_row(Text(word.text), str(word.slot), str(word.tokens), "yes" if word.kept else "NO", reach)
    console.print(table)
    if found.unknown:
        console.print(Text(f"the miniature never learned: {', '.join(found.unknown)}"))
    if found.silent:
        console.print(Text(f"says next to nothing to the encoder: {', '.join(found.silent)}"))
    if found.order is not None:
        tells = "hardly tells" if found.order < 1 else "tells"
        console.print(
            Text(f"the encoder {tells} it from {found.swapped!r}: that differs {found.order:.2f} times as much as")
        )
        console.print("the same prompt with its objects named in the other order, which means the same")
    if found.reason:
        console.print(Text(found.reason))
    for claim, line in lines:
        console.print(Text(f"{claim}: {line}"))
    if not lines:
        console.print("no advice: no settled claim speaks of this prompt (promptlab claims settles them)")
