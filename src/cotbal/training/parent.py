"""A process that must not outlive the driver or the launcher that started it."""

from __future__ import annotations

import os
import threading

from cotbal.data.files import is_running
from cotbal.training.environment import PARENT

LOOK_SECONDS = 0.5


class Watch:
    """A thread that ends this process when its parent or its driver has ended."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        driver = os.environ.get(PARENT)
        if driver is not None:
            arguments = (os.getppid(), int(driver))
            self._thread = threading.Thread(target=self._watch, args=arguments, daemon=True)
            self._thread.start()

    def _watch(self, parent: int, driver: int) -> None:
        while os.getppid() == parent and is_running(driver):
            if self._stopped.wait(LOOK_SECONDS):
                return
        os._exit(1)

    def stop(self) -> None:
        """End the thread, so that the process can be forked."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
