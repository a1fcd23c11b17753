"""A judge on this machine: an OpenAI-compatible server that behaves as each test asks, misbehaving
included.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-never-write-this-down-0123456789"
Action = Callable[["Handler"], None]


def says(text: str | None, **changed: Any) -> Action:
    """A completion with this text."""
    content = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "judge-2026",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        **changed,
    }
    return lambda handler: handler.send(200, json.dumps(content))


def marks(mark: Callable[[str], float]) -> Action:
    """Marks by what the answers say, in the order in which they stand."""

    def both(handler: Handler) -> None:
        question = handler.body["messages"][-1]["content"]
        first, second = (
            question.partition(f"[Assistant {i}]\n")[2].partition(f"\n\n[End of Assistant {i}]")[0]
            for i in (1, 2)
        )
        says(f"{mark(first):g} {mark(second):g}\nThat is why.")(handler)

    return both


def fails(status: int, message: str = "not today", **headers: str) -> Action:
    """An error as OpenAI words it."""
    return lambda handler: handler.send(
        status, json.dumps({"error": {"message": message}}), headers
    )


def sends(body: str, kind: str = "application/json") -> Action:
    """Any body, with status 200."""
    return lambda handler: handler.send(200, body, {"Content-Type": kind})


def breaks_off(handler: Handler) -> None:
    """Promise a long body, send its beginning, hang up."""
    handler.send(200, '{"choices": [{"mess', {"Content-Length": "5000"})
    handler.close_connection = True


def hangs(seconds: float, then: Action) -> Action:
    """Take its time."""

    def wait(handler: Handler) -> None:
        handler.judge.closing.wait(seconds)
        then(handler)

    return wait


@dataclass
class JudgeServer:
    """What it does next, and what it was asked.

    Attributes:
        queue: actions for the next requests, in order; after them every request gets `usual`.
        usual: what it does otherwise.
        asked: every request: its body, its path and the key that came with it.
        most: the largest number of requests that were under way at the same time.
    """

    usual: Action = field(default_factory=lambda: says("8 6\nThe second misses the hat."))
    queue: list[Action] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    most: int = 0
    url: str = ""

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.running = 0

    def __enter__(self) -> JudgeServer:
        self.server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Bound", (Handler,), {"judge": self})
        )
        self.server.daemon_threads = True
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def questions(self) -> list[str]:
        """The last message of every request."""
        return [request["messages"][-1]["content"] for request in self.asked]

    def wait_for(self, requests: int, seconds: float = 60) -> None:
        """Until so many requests have come."""
        end = time.monotonic() + seconds
        while len(self.asked) < requests:
            assert time.monotonic() < end, f"{len(self.asked)} of {requests} requests came"
            time.sleep(0.01)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    judge: JudgeServer
    body: dict[str, Any]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Note the request, then act."""
        body = self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        judge = self.judge
        with judge.lock:
            judge.asked.append({**body, "path": self.path, "key": self.headers["Authorization"]})
            action = judge.queue.pop(0) if judge.queue else judge.usual
            judge.running += 1
            judge.most = max(judge.most, judge.running)
        try:
            action(self)
        except OSError:
            self.close_connection = True  # the client has gone
        finally:
            with judge.lock:
                judge.running -= 1

    def send(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        """One whole response, unless the headers lie."""
        content = body.encode()
        self.send_response(status)
        given = {
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            **(headers or {}),
        }
        for name, value in given.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
