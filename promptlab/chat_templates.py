"""What a chat template puts around a prompt, read from a tokenizer's folder.

Language models that serve as text encoders read a chat: template(messages) = before + prompt + after, in the words of
the folder's own template (Jinja, in `chat_template.jinja` or `tokenizer_config.json`). The frame takes tokens, too.

A template is somebody else's program, so it runs in Jinja's sandbox, as transformers runs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from promptlab.errors import ModelError

__all__ = ["chat_frame"]

_PROMPT = "\u2402prompt\u2403"
"""Stands for the prompt while the template is rendered; no template holds it."""


def chat_frame(folder: Path, options: Iterable[tuple[str, bool]] = (), system: str | None = None) -> tuple[str, str]:
    """The text before and after a prompt in the chat template of a tokenizer's folder.

    Args:
        options: variables of the template, such as ("add_generation_prompt", True).
        system: a system message. With one, messages hold lists of parts, as processors of several modes write them.

    Raises ModelError where there is no template, or none that shows the prompt once.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    source, names = _template(folder)
    if source is None:
        raise ModelError(f"{folder} has no chat template (chat_template.jinja); get the model again")
    if system is None:
        messages: list[dict[str, Any]] = [{"role": "user", "content": _PROMPT}]
    else:
        texts = (("system", system), ("user", _PROMPT))
        messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in texts]
    room = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    room.globals["raise_exception"] = _refuse
    room.globals["strftime_now"] = datetime.now().strftime
    try:
        text = room.from_string(source).render(messages=messages, **names, **dict(options))
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"the chat template of {folder} cannot be rendered ({error}); get the model again") from None
    before, prompt, after = text.partition(_PROMPT)
    if not prompt or _PROMPT in after:
        raise ModelError(f"the chat template of {folder} does not show the prompt once; get the model again")
    return before, after


def _refuse(message: str) -> None:
    raise ValueError(message)


def _template(folder: Path) -> tuple[str | None, dict[str, str]]:
    """The template, and the special tokens that it may name."""
    try:
        config = folder / "tokenizer_config.json"
        said = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        source: Any = said.get("chat_template")
        file = folder / "chat_template.jinja"
        older = folder / "chat_template.json"
        if file.is_file():
            source = file.read_text(encoding="utf-8")
        elif older.is_file():
            source = json.loads(older.read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"the chat template of {folder} cannot be read ({error}); get the model again") from error
    names: dict[str, str] = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = said.get(name)
        names[name] = value.get("content", "") if isinstance(value, dict) else value or ""
    return source if isinstance(source, str) else None, names
