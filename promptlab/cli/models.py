"""The command that says what models are on this disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from promptlab.cli.say import console, size

if TYPE_CHECKING:
    from promptlab.backends.inventory import Stock

__all__ = ["models"]


def models(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders, or OWNER/NAME[@REVISION]; all that is here if none is given.", show_default=False
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash every file and hold it against the hub's own.")
    ] = False,
) -> None:
    """List the models on this disk: family, size, what they can do, what is missing offline and how to get it."""
    from promptlab.backends.inventory import look_over, models_here
    from promptlab.backends.inventory import verify as check
    from promptlab.errors import ModelError

    bad = 0
    stocks: list[Stock] = [] if names else list(models_here())
    for name in names or ():
        try:
            stocks.append(look_over(name))
        except ModelError as error:  # one that is not here does not hide the others
            console.print(f"{name}: {error}")
            bad += 1
    for stock in stocks:
        console.print(f"{stock.name}: {stock.family}, {size(stock.bytes)}, {_state(stock)}")
        if stock.commit:
            console.print(f"  commit {stock.commit}")
        if stock.complete:
            _can(stock)
        for problem in stock.problems:
            console.print(f"  {problem}")
        if stock.missing:
            console.print(f"  missing: {', '.join(stock.missing)}")
            console.print(f"  to get it: {stock.pull}")
        bad += not stock.complete
        if verify:
            found = check(stock.folder)
            console.print(f"  verified: {found.agree} files agree with their hash, {len(found.differ)} differ")
            if found.unknown:
                console.print(f"  no hash is known of {len(found.unknown)} files, such as {found.unknown[0]}")
            for file in found.differ:
                console.print(f"  DIFFERS: {file}")
            bad += bool(found.differ)
    if names and bad:
        raise ModelError(f"{bad} of these models cannot be trusted to run offline, see above")
    if not names:
        console.print("Next: promptlab plan STUDY --model NAME")


def _state(stock: Stock) -> str:
    state = "complete" if stock.complete else "NOT complete"
    return f"{state}, {'safetensors only' if not stock.pickles else f'{len(stock.pickles)} pickle files, never opened'}"


def _can(stock: Stock) -> None:
    """What a model can do, in a line."""
    from promptlab.backends.capabilities import capability, defaults_of

    able, own = capability(stock.folder), defaults_of(stock.name)
    guidance = {
        "true": "true guidance (guidance_scale)",
        "embedded": "distilled guidance (distilled_guidance_scale)",
        "none": "no guidance",
    }[able.guidance_kind]
    readers = ", ".join(f"{reader.name} {reader.limit} tokens" for reader in able.readers)
    console.print(
        f"  {guidance}; reads {readers}; {own.num_inference_steps} steps, {own.height} px by "
        f"default, multiples of {able.multiple}; latents of {able.channels} channels, 1/{able.factor} of the size"
    )
