"""`cotbal` in the process of the test: what it printed, and the error that it ended with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cotbal.errors import CotbalError


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        error: what its message was made of; None after success, or where Typer rejected the
            arguments.
    """

    code: int
    out: str
    err: str
    error: CotbalError | None = None

    def expect(self, kind: type[CotbalError], code: str | None, *names: object) -> None:
        """Expect exit code 2 with exactly this error, its message on the error stream.

        Args:
            code: of the error; None where the test of its own room checks it.
            names: what the message must name: a file, a task, an option. Never whole phrases.
        """
        assert self.code == 2, self.out + self.err
        assert isinstance(self.error, kind), self.out + self.err
        assert code is None or self.error.code == code
        assert f"cotbal: {self.error}\n" in self.err
        assert "Traceback" not in self.err
        for name in names:
            assert str(name) in self.err


Command = Callable[..., Ended]
