"""How OpenAI's image models and Google's Gemini ones are asked through their SDKs, and what their answers mean.

A system is a function from a job to the bytes of one picture's file. What else may come is one of four: refused, may
work another time, will not work for this picture, will not work for any.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Any, Protocol

from promptlab.backends import Job

__all__ = ["Again", "Failed", "Refused", "Shut", "System", "gemini", "openai"]

_REFUSALS = ("moderation_blocked", "content_policy_violation")
_BLOCKED = ("SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "RECITATION", "SPII")


class Refused(Exception):
    """The system will not make this picture."""


class Again(Exception):
    """It may work another time, `after` so many seconds if the system says so; `charged`: this try may be paid for."""

    def __init__(self, why: str, after: float | None = None, status: Any = "error", charged: bool = False) -> None:
        super().__init__(why)
        self.after, self.status, self.charged = after, status, charged


class Failed(Exception):
    """It will not work another time."""


class Shut(Exception):
    """It will work for no picture."""


class System(Protocol):
    """Asks one closed system for one picture."""

    def __call__(self, job: Job) -> bytes:
        """The file of one picture. Raises Refused, Again, Failed or Shut."""
        ...


def _seconds(headers: Any) -> float | None:
    """Retry-After in seconds; None where it is missing or a date."""
    try:
        return max(0.0, float(headers.get("retry-after")))
    except (AttributeError, TypeError, ValueError):
        return None


def _raise(status: int, why: str, headers: Any) -> None:
    """What an HTTP status means: 408, 409, 429 and 5xx may pass; 401, 403 and 404 would meet every picture."""
    if status in (401, 403, 404):
        raise Shut(why)
    if status in (408, 409, 429) or status >= 500:
        raise Again(why, _seconds(headers))
    raise Failed(why)


def _drawing(error: BaseException) -> bool:
    """Whether the system may have been drawing when the line failed: it was reached."""
    import httpx

    return not isinstance(error.__cause__ or error, httpx.ConnectError | httpx.ConnectTimeout)


def openai(name: str, key: str, timeout: float) -> System:
    """OpenAI's model `name`; `timeout` in seconds a call. The address is OPENAI_BASE_URL's."""
    import openai as sdk

    client = sdk.OpenAI(api_key=key, timeout=timeout, max_retries=0)

    def call(job: Job) -> bytes:
        size: Any = f"{job.settings.width}x{job.settings.height}"
        try:
            answer = client.images.generate(model=name, prompt=job.prompt, size=size, n=1)
        except sdk.APIStatusError as error:
            if error.code in _REFUSALS:
                raise Refused(f"{error.code}: {error.message}") from None
            if error.code == "insufficient_quota":  # a 429 that waiting does not mend
                raise Shut(f"HTTP {error.status_code} {error.code}") from None
            _raise(error.status_code, f"HTTP {error.status_code} {error.code or ''}".strip(), error.response.headers)
            raise
        except (sdk.APIError, ValueError) as error:  # timeouts, cut answers, no JSON
            raise Again(type(error).__name__, charged=_drawing(error)) from None
        data = answer.data[0].b64_json if answer.data else None
        if not data:
            raise Again("the answer holds no picture", status="invalid_image")
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error:
            raise Again("the answer is no base64", status="invalid_image", charged=True) from None

    return call


def gemini(name: str, key: str, timeout: float) -> System:
    """Google's model `name`; `timeout` in seconds a call. The address is GOOGLE_GEMINI_BASE_URL's."""
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
            if "API_KEY_INVALID" in str(error.details):  # a wrong key is a 400 here
                raise Shut(f"{why} API_KEY_INVALID") from None
            _raise(error.code, why, getattr(error.response, "headers", None))
            raise
        except (httpx.HTTPError, ValueError) as error:  # timeouts, cut answers, no JSON, no base64
            raise Again(type(error).__name__, charged=_drawing(error)) from None
        if answer.prompt_feedback and answer.prompt_feedback.block_reason:
            raise Refused(f"prompt blocked: {answer.prompt_feedback.block_reason.name}")
        for candidate in answer.candidates or ():
            for part in (candidate.content.parts if candidate.content else None) or ():
                if part.inline_data and part.inline_data.data:
                    return part.inline_data.data
            reason = candidate.finish_reason.name if candidate.finish_reason else ""
            if any(word in reason for word in _BLOCKED):
                raise Refused(f"finish_reason {reason}")
        raise Again("the answer holds no picture", status="invalid_image")

    return call
