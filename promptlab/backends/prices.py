"""What a picture of a closed system costs by its list price, and the purse that a run pays from.

Prices are US dollars a picture, as of the date beside them; they move, and a study's `price_per_image` goes before
them. The words of a prompt are charged beside the picture (OpenAI: 5 dollars a million tokens, so less than 0.1 cent
for 100 words) and are not counted, nor are taxes. promptlab asks OpenAI for no quality, and the system chooses; a plan
counts the dearest that it may choose.

References:
    OpenAI, Pricing, GPT Image 1, per picture by quality and size (platform.openai.com/docs/pricing), list of May 2025.
    Google 2025, Introducing Gemini 2.5 Flash Image (developers.googleblog.com, 26 August): 1290 tokens a picture at 30
        dollars a million.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from threading import Condition

__all__ = ["LIST", "Price", "Purse", "list_price"]


@dataclass(frozen=True)
class Price:
    """US dollars for one picture. `size` is "WIDTHxHEIGHT"; None stands for every size, or for no choice of quality."""

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
    """The dearest that one picture of `model` may cost, or None where no price is known."""
    size = f"{width}x{height}"
    fitting = [price for price in LIST if price.model == model and price.size in (None, size)]
    return max(fitting, key=lambda price: price.usd, default=None)


class Purse:
    """What a run may still spend; shared by calls that go on at once. `cap` in US dollars; None sets no limit.

    A call takes its price before it asks and settles it when the answer is there. What is taken and what was charged
    never come to more than the cap.
    """

    def __init__(self, cap: float | None = None) -> None:
        self.cap, self.spent = cap, 0.0
        self._held = 0.0
        self._turn = Condition()

    def take(self, price: float | None) -> bool:
        """Set `price` aside; False where it does not fit. Waits for calls under way that may yet cost nothing.

        A price that nobody knows (None) fits no cap.
        """
        if self.cap is None:
            return True
        asked = inf if price is None else price
        room = self.cap + 1e-9  # sums of cents are not exact
        with self._turn:
            while self.spent + self._held + asked > room:
                if self.spent + asked > room:
                    return False
                self._turn.wait()
            self._held += asked
            return True

    def settle(self, price: float | None, charged: bool) -> None:
        """What was taken is spent, or free again."""
        if self.cap is None or price is None:
            return
        with self._turn:
            self._held -= price
            self.spent += price if charged else 0.0
            self._turn.notify_all()
