"""A local server that speaks the protocols of closed systems and fails by script."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image as Pillow

KEY = "sk-canary-9f3a7c51e2d84b60"


def png() -> str:
    buffer = io.BytesIO()
    picture = Pillow.linear_gradient("L").resize((48, 32)).convert("RGB")
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        openai = self.path.endswith("/images/generations")
        self.server.keys.append(self.headers["authorization"] or self.headers["x-goog-api-key"])  # type: ignore[attr-defined]
        prompt = body["prompt"] if openai else body["contents"][0]["parts"][0]["text"]
        with self.server.lock:  # type: ignore[attr-defined]
            script = self.server.script.get(prompt)  # type: ignore[attr-defined]
            fault = script.pop(0) if script else self.server.all  # type: ignore[attr-defined]
        if fault == "refuse" and openai:
            error = {"code": "moderation_blocked", "message": f"not this, {KEY}", "type": "image_generation_user_error"}
            return self.answer(400, {"error": error})
        if fault in ("429", "500"):
            return self.answer(int(fault), {"error": {"message": KEY, "code": int(fault), "status": "X"}})
        if fault in ("401", "403", "404"):
            return self.answer(int(fault), {"error": {"message": KEY, "code": "bad" if openai else int(fault)}})
        if fault == "empty":
            return self.answer(429, {"error": {"message": KEY, "code": "insufficient_quota"}})
        if fault == "no key":
            told = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
            error = {"message": KEY, "code": 400, "status": "INVALID_ARGUMENT", "details": told}
            return self.answer(400, {"error": error})
        if fault == "slow":
            time.sleep(1.5)
        data = {"base64": "@@@", "junk": base64.b64encode(b"no picture").decode()}.get(fault, png())
        parts = {"parts": [{"inlineData": {"mimeType": "image/png", "data": data}}]}
        candidate: dict[str, Any] = {"content": parts, "finishReason": "STOP"}
        if fault == "refuse":
            candidate = {"finishReason": "IMAGE_SAFETY"}
        self.answer(200, {"created": 1, "data": [{"b64_json": data}]} if openai else {"candidates": [candidate]}, fault)

    def answer(self, status: int, body: dict[str, Any], fault: str = "") -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if status == 429:
            self.send_header("retry-after", "7")
        self.end_headers()
        with contextlib.suppress(OSError):  # the client may have left
            self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        self.close_connection = True


def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The server, with keys and addresses in the environment.

    `script` maps a prompt to the faults of its answers, one each; `all` is the fault of every other; `keys` are those
    of every call so far.
    """
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.lock, server.script, server.keys, server.all = threading.Lock(), {}, [], "ok"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "OPENAI_API_KEY": KEY,
        "GEMINI_API_KEY": KEY,
        "OPENAI_BASE_URL": f"{base}/v1",
        "GOOGLE_GEMINI_BASE_URL": base,
    }.items():
        monkeypatch.setenv(name, value)
    yield server
    server.shutdown()
    server.server_close()
