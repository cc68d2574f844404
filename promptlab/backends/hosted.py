"""Pictures of closed systems: OpenAI's image models and Google's Gemini ones (extra `hosted`).

A model is named `openai:NAME` or `gemini:NAME`. These systems take no seed: the study's seeds count repeats, and two
pictures of one seed do not share noise. Each picture is one call. What may pass (429, 5xx, a timeout, a cut answer, an
answer that is no picture) is tried again, after RETRY-AFTER if the system says so, else after a random time up to
min(CEILING, 2^attempt) seconds. A refusal is final and gets the status `refused`.

The key is read from OPENAI_API_KEY or GEMINI_API_KEY, the address from OPENAI_BASE_URL or GOOGLE_GEMINI_BASE_URL. No
text of a system reaches a record before the key is taken out of it.

References:
    Brooker 2015, Exponential Backoff And Jitter (AWS Architecture Blog): full jitter.
"""

from __future__ import annotations

import base64
import binascii
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Protocol

from promptlab.backends import Job, Made
from promptlab.errors import ModelError, StoreError
from promptlab.redaction import redact, secrets

__all__ = ["Hosted", "load"]

ATTEMPTS, CEILING, TIMEOUT, CALLS = 5, 60.0, 180.0, 4
"""Tries a picture; longest wait before another and longest call, in seconds; calls at once."""

_VARIABLES = {"openai": "OPENAI_API_KEY", "gemini": "GEMINI_API_KEY"}
_PACKAGES = {"openai": ("openai", "openai"), "gemini": ("google.genai", "google-genai")}
_REFUSALS = ("moderation_blocked", "content_policy_violation")
_BLOCKED = ("SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "RECITATION", "SPII")


class _Refused(Exception):
    """The system will not make this picture."""


class _Again(Exception):
    """It may work another time; `after` is what the system asks to wait, in seconds."""

    def __init__(self, why: str, after: float | None = None, status: Any = "error") -> None:
        super().__init__(why)
        self.after, self.status = after, status


class _Failed(Exception):
    """It will not work another time."""


class _System(Protocol):
    def __call__(self, job: Job) -> bytes:
        """The file of one picture. Raises _Refused, _Again or _Failed."""
        ...


def load(
    model: str = "openai:gpt-image-1",
    batch_size: int | None = None,
    timeout: float = TIMEOUT,
    sleep: Callable[[float], None] = time.sleep,
) -> Hosted:
    """The backend; `batch_size` is how many calls go on at once. Raises ModelError: no such system, no SDK, no key."""
    system, _, name = model.partition(":")
    if system not in _VARIABLES or not name:
        raise ModelError(f"a hosted model is openai:NAME or gemini:NAME, such as openai:gpt-image-1; given {model!r}")
    module, package = _PACKAGES[system]
    try:
        import_module(module)
    except ImportError:
        raise ModelError(
            f'{model} needs the package {package}: pip install "promptlab-t2i[hosted]", or uv run --extra hosted ...'
        ) from None
    key = os.environ.get(_VARIABLES[system], "").strip()
    if not key:
        raise ModelError(f"{model} needs a key in the environment variable {_VARIABLES[system]}, which is not set")
    call = _openai(name, key, timeout) if system == "openai" else _gemini(name, key, timeout)
    return Hosted(model, call, key, batch_size or CALLS, sleep)


class Hosted:
    """Asks for one picture a call, some calls at once."""

    name = "hosted"

    def __init__(self, model: str, call: _System, key: str, calls: int, sleep: Callable[[float], None]) -> None:
        self.model = model
        self._call, self._key, self._calls, self._sleep = call, key, calls, sleep

    def provenance(self) -> dict[str, Any]:
        """Model and version of its SDK; that seeds are repeats."""
        package = _PACKAGES[self.model.partition(":")[0]][1]
        return {
            "backend": self.name,
            "model": self.model,
            "seeds": "repeats: the system takes no seed",
            "versions": {package: metadata.version(package)},
        }

    def generate(self, jobs: Sequence[Job]) -> Iterator[Made]:
        """Ask for every job; they come as they are answered. When stopped, calls that have not begun are dropped."""
        pool = ThreadPoolExecutor(self._calls, thread_name_prefix="promptlab-hosted")
        try:
            for future in as_completed([pool.submit(self._make, job) for job in jobs]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def close(self) -> None:
        """Nothing is held."""

    def _make(self, job: Job) -> Made:
        from promptlab.decoding import decode

        for attempt in range(1, ATTEMPTS + 1):
            began = time.perf_counter()
            try:
                try:
                    pixels = decode(self._call(job), Path("the answer"))
                except StoreError as error:
                    raise _Again(str(error), status="invalid_image") from None
                return Made(job.image_id, pixels, seconds=time.perf_counter() - began, batch_size=1)
            except _Refused as error:
                return Made(job.image_id, status="refused", reason=self._short(error))
            except _Again as error:
                if attempt == ATTEMPTS:
                    why = f"{self._short(error)} ({ATTEMPTS} tries)"
                    return Made(job.image_id, status=error.status, reason=why)
                wait = random.uniform(0, 2.0**attempt) if error.after is None else error.after
                self._sleep(min(CEILING, wait))
            except Exception as error:  # a picture that fails never ends the run
                return Made(job.image_id, status="error", reason=self._short(error))
        raise AssertionError("unreachable")

    def _short(self, error: Exception) -> str:
        text = " ".join(str(error).split()) or type(error).__name__
        return redact(text, (self._key, *secrets()))[:200]


def _seconds(headers: Any) -> float | None:
    """Retry-After in seconds; None where it is missing or a date."""
    try:
        return max(0.0, float(headers.get("retry-after")))
    except (AttributeError, TypeError, ValueError):
        return None


def _raise(status: int, why: str, headers: Any) -> None:
    """What an HTTP status means: 408, 409, 429 and 5xx may pass."""
    if status in (408, 409, 429) or status >= 500:
        raise _Again(why, _seconds(headers))
    raise _Failed(why)


def _openai(name: str, key: str, timeout: float) -> _System:
    import openai

    client = openai.OpenAI(api_key=key, timeout=timeout, max_retries=0)

    def call(job: Job) -> bytes:
        size: Any = f"{job.settings.width}x{job.settings.height}"
        try:
            answer = client.images.generate(model=name, prompt=job.prompt, size=size, n=1)
        except openai.APIStatusError as error:
            if error.code in _REFUSALS:
                raise _Refused(f"{error.code}: {error.message}") from None
            if error.code == "insufficient_quota":  # a 429 that waiting does not mend
                raise _Failed(f"HTTP {error.status_code} {error.code}") from None
            _raise(error.status_code, f"HTTP {error.status_code} {error.code or ''}".strip(), error.response.headers)
            raise
        except (openai.APIError, ValueError) as error:  # timeouts, cut answers, no JSON
            raise _Again(type(error).__name__) from None
        data = answer.data[0].b64_json if answer.data else None
        if not data:
            raise _Again("the answer holds no picture", status="invalid_image")
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error:
            raise _Again("the answer is no base64", status="invalid_image") from None

    return call


def _gemini(name: str, key: str, timeout: float) -> _System:
    import httpx
    from google import genai
    from google.genai import errors, types

    base = os.environ.get("GOOGLE_GEMINI_BASE_URL")
    options = types.HttpOptions(timeout=int(timeout * 1000), base_url=base)
    client = genai.Client(api_key=key, vertexai=False, http_options=options)
    config = types.GenerateContentConfig(response_modalities=["IMAGE"])

    def call(job: Job) -> bytes:
        try:
            answer = client.models.generate_content(model=name, contents=job.prompt, config=config)
        except errors.APIError as error:
            why = f"HTTP {error.code} {error.status or ''}".strip()
            _raise(error.code, why, getattr(error.response, "headers", None))
            raise
        except (httpx.HTTPError, ValueError) as error:  # timeouts, cut answers, no JSON, no base64
            raise _Again(type(error).__name__, status="error") from None
        if answer.prompt_feedback and answer.prompt_feedback.block_reason:
            raise _Refused(f"prompt blocked: {answer.prompt_feedback.block_reason.name}")
        for candidate in answer.candidates or ():
            for part in (candidate.content.parts if candidate.content else None) or ():
                if part.inline_data and part.inline_data.data:
                    return part.inline_data.data
            reason = candidate.finish_reason.name if candidate.finish_reason else ""
            if any(word in reason for word in _BLOCKED):
                raise _Refused(f"finish_reason {reason}")
        raise _Again("the answer holds no picture", status="invalid_image")

    return call
