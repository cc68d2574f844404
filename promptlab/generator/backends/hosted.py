"""Images of closed systems: OpenAI's image models and Google's Gemini models (extra `hosted`).

A model is named `openai:NAME` or `gemini:NAME`. These systems take no seed. The study's seeds count repeats, and two
images of one seed share no noise. Each image is one call, and a system is a function from a job to the bytes of one
image's file. A failed call is one of four kinds:

    Again     it may work later (429, 5xx, a timeout, a cut answer, an answer without an image): tried again
    Refused   the system will not make this image: final, with the status `refused`
    Failed    this image fails every time: final, with the status `error`
    Shut      no image will work (401, 403, 404, an empty account): the run ends at once

The wait before another try is what RETRY-AFTER says, else a random time up to min(CEILING, 2^attempt) seconds. The key
comes from OPENAI_API_KEY or GEMINI_API_KEY, the address from OPENAI_BASE_URL or GOOGLE_GEMINI_BASE_URL. Keys are
removed from every text of a system before it reaches a record.

Every try first reserves its price from the budget. The price is spent if an image came back, whole or broken, and if
the connection broke while the system may have been drawing. An error, a refusal or an answer without an image frees it.
Once the budget has no room, no new call begins, and the images that were not requested stay missing.

Prices are US dollars an image at the date given with them. They change, so a study's `price_per_image` takes
precedence. The tokens of a prompt cost extra (OpenAI: 5 dollars a million, less than 0.1 cent for 100 words) and are
not counted, nor are taxes. promptlab does not set OpenAI's quality: the system chooses, and a plan counts the highest
price.

References:
    Brooker 2015, Exponential Backoff And Jitter (AWS Architecture Blog): full jitter.
    OpenAI, Pricing, GPT Image 1, per image by quality and size (platform.openai.com/docs/pricing), list of May 2025.
    Google 2025, Introducing Gemini 2.5 Flash Image (developers.googleblog.com, 26 August): 1290 tokens an image at 30
        dollars a million.
"""

from __future__ import annotations

import base64
import binascii
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import import_module, metadata
from math import inf
from pathlib import Path
from threading import Condition, Event
from typing import Any, Protocol

from promptlab.errors import IncompleteError, ModelError, StoreError
from promptlab.generator.backends import ELSEWHERE, Job, Made
from promptlab.store.home import redact, secrets

__all__ = [
    "LIST",
    "Again",
    "Budget",
    "Failed",
    "Hosted",
    "Price",
    "Refused",
    "Shut",
    "System",
    "gemini",
    "list_price",
    "load",
    "missing_key",
    "openai",
]

ATTEMPTS, CEILING, TIMEOUT, CALLS = 5, 60.0, 180.0, 4
"""Tries an image; longest wait before another try and longest call, in seconds; calls at once."""

_VARIABLES = {"openai": "OPENAI_API_KEY", "gemini": "GEMINI_API_KEY"}
_PACKAGES = {"openai": ("openai", "openai"), "gemini": ("google.genai", "google-genai")}


def load(
    model: str = "openai:gpt-image-1",
    batch_size: int | None = None,
    timeout: float = TIMEOUT,
    sleep: Callable[[float], Any] | None = None,
    budget: Budget | None = None,
    price: float | None = None,
) -> Hosted:
    """Create the backend.

    Args:
        batch_size: calls at once.
        timeout: seconds a call.
        sleep: waits between two tries; None waits until the time is over or the run ends.
        budget: what the run may spend; None sets no limit.
        price: US dollars an image, in place of the list price.

    Raises ModelError for an unknown system, or one without its SDK or its key.
    """
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
    if variable := missing_key(model):
        raise ModelError(f"{model} needs a key in the environment variable {variable}, which is not set")
    key = os.environ[_VARIABLES[system]].strip()
    call = openai(name, key, timeout) if system == "openai" else gemini(name, key, timeout)
    return Hosted(model, call, key, batch_size or CALLS, sleep, budget or Budget(), price)


def missing_key(model: str) -> str | None:
    """The environment variable in which a model's key is missing, or None."""
    variable = _VARIABLES.get(model.partition(":")[0])
    return variable if variable and not os.environ.get(variable, "").strip() else None


class Hosted:
    """Requests one image a call, with several calls at once."""

    name = "hosted"

    def __init__(
        self,
        model: str,
        call: System,
        key: str,
        calls: int,
        sleep: Callable[[float], Any] | None,
        budget: Budget,
        price: float | None,
    ) -> None:
        self.model = model
        self._call, self._key, self._calls, self._budget, self._price = call, key, calls, budget, price
        self._halted = Event()
        self._sleep = sleep or self._halted.wait  # a wait that ends when the run does

    def provenance(self) -> dict[str, Any]:
        """The model, the version of its SDK, and that seeds count repeats."""
        package = _PACKAGES[self.model.partition(":")[0]][1]
        return {
            "backend": self.name,
            "model": self.model,
            "device": ELSEWHERE,
            "seeds": "repeats: the system takes no seed",
            "versions": {package: metadata.version(package)},
        }

    def generate(self, jobs: Sequence[Job]) -> Iterator[Made]:
        """Request every job and yield the results as they arrive. Stopping drops calls that have not begun.

        Raises, after the results that arrived, ModelError if the system accepts no request at all, and IncompleteError
        if the budget has no room for the rest.
        """
        pool = ThreadPoolExecutor(self._calls, thread_name_prefix="promptlab-hosted")
        shut: str | None = None
        left = 0
        self._halted.clear()
        try:
            for future in as_completed([pool.submit(self._make, job) for job in jobs]):
                try:
                    made = future.result()
                except Shut as error:
                    shut = shut or self._short(error)
                    continue  # calls under way may bring pictures that are paid for
                if made is None:
                    left += 1
                else:
                    yield made
        finally:
            self._halted.set()
            pool.shutdown(cancel_futures=True)
        if shut:
            variable = _VARIABLES[self.model.partition(":")[0]]
            raise ModelError(f"{self.model} answers {shut}: nothing can be made; look at {variable}, model and account")
        if left:
            raise IncompleteError(
                f"{left:,} pictures stay missing: they would pass the budget of ${self._budget.cap or 0:.2f}, of which "
                f"${self._budget.spent:.2f} are spent"
            )

    def close(self) -> None:
        """Does nothing: no memory is held."""

    def _make(self, job: Job) -> Made | None:
        """Request one image until it succeeds or fails for good. None if no request was made."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._try(job)
            except Shut:
                self._halted.set()  # here, before this thread or another begins the next call
                raise
            except Refused as error:
                return Made(job.image_id, status="refused", reason=self._short(error))
            except Again as error:
                if attempt == ATTEMPTS:
                    why = f"{self._short(error)} ({ATTEMPTS} tries)"
                    return Made(job.image_id, status=error.status, reason=why)
                wait = random.uniform(0, 2.0**attempt) if error.after is None else error.after  # noqa: S311
                self._sleep(min(CEILING, wait))
            except Exception as error:  # a picture that fails never ends the run
                return Made(job.image_id, status="error", reason=self._short(error))
        raise AssertionError("unreachable")

    def _try(self, job: Job) -> Made | None:
        """Request one image once, and settle its price. None if the run has ended or the budget has no room."""
        from promptlab.store.pictures import decode

        price = self._price
        if price is None:
            list_entry = list_price(self.model, job.settings.width, job.settings.height)
            price = list_entry.usd if list_entry else None
        if self._halted.is_set() or not self._budget.take(price):
            return None
        began, charged = time.perf_counter(), True
        try:
            data = self._call(job)
            return Made(
                job.image_id, decode(data, Path("the answer")), seconds=time.perf_counter() - began, batch_size=1
            )
        except StoreError as error:
            raise Again(str(error), status="invalid_image") from None
        except Again as error:
            charged = error.charged
            raise
        except (Refused, Failed, Shut):
            charged = False
            raise
        finally:
            self._budget.settle(price, charged)

    def _short(self, error: Exception) -> str:
        """An error's text on one line, without keys, at most 200 characters."""
        text = " ".join(str(error).split()) or type(error).__name__
        return redact(text, (self._key, *secrets()))[:200]


_REFUSALS = ("moderation_blocked", "content_policy_violation")
_BLOCKED = ("SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "RECITATION", "SPII")


class Refused(Exception):
    """The system refuses to make this image."""


class Again(Exception):
    """It may work later, after `after` seconds if the system says so. `charged`: this try may cost its price."""

    def __init__(self, why: str, after: float | None = None, status: Any = "error", charged: bool = False) -> None:
        super().__init__(why)
        self.after, self.status, self.charged = after, status, charged


class Failed(Exception):
    """This image fails every time."""


class Shut(Exception):
    """No image will work: a wrong key, an unknown model or an empty account."""


class System(Protocol):
    """Requests one image from one closed system."""

    def __call__(self, job: Job) -> bytes:
        """The bytes of one image's file. Raises Refused, Again, Failed or Shut."""
        ...


def _seconds(headers: Any) -> float | None:
    """Retry-After in seconds; None if it is missing or a date."""
    try:
        return max(0.0, float(headers.get("retry-after")))
    except (AttributeError, TypeError, ValueError):
        return None


def _raise(status: int, why: str, headers: Any) -> None:
    """Raise what an HTTP status means: 408, 409, 429 and 5xx may pass; 401, 403 and 404 would hit every image."""
    if status in (401, 403, 404):
        raise Shut(why)
    if status in (408, 409, 429) or status >= 500:
        raise Again(why, _seconds(headers))
    raise Failed(why)


def _drawing(error: BaseException) -> bool:
    """Whether the system may have been drawing when the connection broke, because it had been reached."""
    import httpx

    return not isinstance(error.__cause__ or error, httpx.ConnectError | httpx.ConnectTimeout)


def openai(name: str, key: str, timeout: float) -> System:
    """OpenAI's model `name`, at the address in OPENAI_BASE_URL; `timeout` in seconds a call."""
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
    """Google's model `name`, at the address in GOOGLE_GEMINI_BASE_URL; `timeout` in seconds a call."""
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


@dataclass(frozen=True)
class Price:
    """US dollars for one image. A `size` is "WIDTHxHEIGHT"; None means any size, or no choice of quality."""

    model: str
    quality: str | None
    size: str | None
    usd: float
    date: str
    source: str


_OPENAI, _GOOGLE = "OpenAI's list", "Google's list"
_SQUARE, _TALL, _WIDE = "1024x1024", "1024x1536", "1536x1024"

LIST: tuple[Price, ...] = (
    *(
        Price("openai:gpt-image-1", quality, size, usd, "2025-05", _OPENAI)
        for quality, prices in {
            "low": {_SQUARE: 0.011, _TALL: 0.016, _WIDE: 0.016},
            "medium": {_SQUARE: 0.042, _TALL: 0.063, _WIDE: 0.063},
            "high": {_SQUARE: 0.167, _TALL: 0.25, _WIDE: 0.25},
        }.items()
        for size, usd in prices.items()
    ),
    Price("gemini:gemini-2.5-flash-image", None, None, 0.039, "2025-08", _GOOGLE),
)


def list_price(model: str, width: int, height: int) -> Price | None:
    """The highest price of one image of `model`, or None if no price is known."""
    size = f"{width}x{height}"
    fitting = [price for price in LIST if price.model == model and price.size in (None, size)]
    return max(fitting, key=lambda price: price.usd, default=None)


class Budget:
    """What a run may still spend, shared by concurrent calls. `cap` in US dollars; None sets no limit.

    A call reserves its price before its request, and settles it once the answer is there. What is reserved and what is
    spent never add up to more than the cap.
    """

    def __init__(self, cap: float | None = None) -> None:
        self.cap, self.spent = cap, 0.0
        self._held = 0.0
        self._turn = Condition()

    def take(self, price: float | None) -> bool:
        """Reserve `price`; False if it does not fit. Waits for running calls that may turn out to cost nothing.

        An unknown price (None) fits no cap.
        """
        if self.cap is None:
            return True
        amount = inf if price is None else price
        room = self.cap + 1e-9  # sums of cents are not exact
        with self._turn:
            while self.spent + self._held + amount > room:
                if self.spent + amount > room:
                    return False
                self._turn.wait()
            self._held += amount
            return True

    def settle(self, price: float | None, charged: bool) -> None:
        """Spend a reserved price if it was charged, else free it."""
        if self.cap is None or price is None:
            return
        with self._turn:
            self._held -= price
            self.spent += price if charged else 0.0
            self._turn.notify_all()
