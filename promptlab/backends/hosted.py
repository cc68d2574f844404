"""Pictures of closed systems: OpenAI's image models and Google's Gemini ones (extra `hosted`).

A model is named `openai:NAME` or `gemini:NAME`. These systems take no seed: the study's seeds count repeats, and two
pictures of one seed do not share noise. Each picture is one call. What may pass (429, 5xx, a timeout, a cut answer, an
answer that is no picture) is tried again, after RETRY-AFTER if the system says so, else after a random time up to
min(CEILING, 2^attempt) seconds. A refusal is final and gets the status `refused`.

The key is read from OPENAI_API_KEY or GEMINI_API_KEY, the address from OPENAI_BASE_URL or GOOGLE_GEMINI_BASE_URL. No
text of a system reaches a record before the key is taken out of it. A key that is not accepted (401, 403), a model that
is not there (404) and an empty account end the run at once.

Every try takes its price from a purse first (`promptlab.backends.prices`). It is spent where a picture came back, whole
or broken, and where the line was cut while the system may have been drawing; an error, a refusal or an answer without a
picture give it back. When the purse is empty no call is begun, and what was not asked for stays missing.

References:
    Brooker 2015, Exponential Backoff And Jitter (AWS Architecture Blog): full jitter.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import import_module, metadata
from pathlib import Path
from threading import Event
from typing import Any

from promptlab.backends import ELSEWHERE, Job, Made
from promptlab.backends.prices import Purse, list_price
from promptlab.backends.systems import Again, Failed, Refused, Shut, System, gemini, openai
from promptlab.errors import IncompleteError, ModelError, StoreError
from promptlab.redaction import redact, secrets

__all__ = ["Hosted", "load", "missing_key"]

ATTEMPTS, CEILING, TIMEOUT, CALLS = 5, 60.0, 180.0, 4
"""Tries a picture; longest wait before another and longest call, in seconds; calls at once."""

_VARIABLES = {"openai": "OPENAI_API_KEY", "gemini": "GEMINI_API_KEY"}
_PACKAGES = {"openai": ("openai", "openai"), "gemini": ("google.genai", "google-genai")}


def load(
    model: str = "openai:gpt-image-1",
    batch_size: int | None = None,
    timeout: float = TIMEOUT,
    sleep: Callable[[float], Any] | None = None,
    purse: Purse | None = None,
    price: float | None = None,
) -> Hosted:
    """The backend; `batch_size` is how many calls go on at once, `price` US dollars a picture in place of the list's.

    Raises ModelError: no such system, no SDK, no key.
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
    return Hosted(model, call, key, batch_size or CALLS, sleep, purse or Purse(), price)


def missing_key(model: str) -> str | None:
    """The environment variable that a model needs a key in and that has none, or None."""
    variable = _VARIABLES.get(model.partition(":")[0])
    return variable if variable and not os.environ.get(variable, "").strip() else None


class Hosted:
    """Asks for one picture a call, some calls at once."""

    name = "hosted"

    def __init__(
        self,
        model: str,
        call: System,
        key: str,
        calls: int,
        sleep: Callable[[float], Any] | None,
        purse: Purse,
        price: float | None,
    ) -> None:
        self.model = model
        self._call, self._key, self._calls, self._purse, self._price = call, key, calls, purse, price
        self._halted = Event()
        self._sleep = sleep or self._halted.wait  # a wait that ends when the run does

    def provenance(self) -> dict[str, Any]:
        """Model and version of its SDK; that seeds are repeats."""
        package = _PACKAGES[self.model.partition(":")[0]][1]
        return {
            "backend": self.name,
            "model": self.model,
            "device": ELSEWHERE,
            "seeds": "repeats: the system takes no seed",
            "versions": {package: metadata.version(package)},
        }

    def generate(self, jobs: Sequence[Job]) -> Iterator[Made]:
        """Ask for every job; they come as they are answered. When stopped, calls that have not begun are dropped.

        Raises, after what was answered, ModelError where the system lets nobody in, and IncompleteError where the purse
        had no room for the rest.
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
                f"{left:,} pictures stay missing: they would pass the budget of ${self._purse.cap or 0:.2f}, of which "
                f"${self._purse.spent:.2f} are spent"
            )

    def close(self) -> None:
        """Nothing is held."""

    def _make(self, job: Job) -> Made | None:
        """What became of one picture; None where it was not asked for."""
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
                wait = random.uniform(0, 2.0**attempt) if error.after is None else error.after
                self._sleep(min(CEILING, wait))
            except Exception as error:  # a picture that fails never ends the run
                return Made(job.image_id, status="error", reason=self._short(error))
        raise AssertionError("unreachable")

    def _try(self, job: Job) -> Made | None:
        from promptlab.decoding import decode

        price = self._price
        if price is None:
            listed = list_price(self.model, job.settings.width, job.settings.height)
            price = listed.usd if listed else None
        if self._halted.is_set() or not self._purse.take(price):
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
            self._purse.settle(price, charged)

    def _short(self, error: Exception) -> str:
        text = " ".join(str(error).split()) or type(error).__name__
        return redact(text, (self._key, *secrets()))[:200]
