"""Detects a task whose records show no image although there are images: most likely they were not
found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from cotbal.benchmarks.custom.folder import TaskFiles
from cotbal.benchmarks.custom.images import first_image
from cotbal.benchmarks.custom.rows import CustomConversation, own_conversations
from cotbal.benchmarks.releases.benchmark import Places
from cotbal.benchmarks.releases.finding import matching
from cotbal.benchmarks.releases.sources import Job
from cotbal.errors import DataError


@dataclass(frozen=True)
class Guard:
    """Keeps a task with images from becoming one of text alone.

    Attributes:
        places: of the dataset and of --images.
        tasks: all tasks of the dataset.
    """

    places: Places
    tasks: tuple[TaskFiles, ...]

    def guarded(
        self, task: TaskFiles, conversations: Iterable[CustomConversation], job: Job
    ) -> Iterator[CustomConversation]:
        """The conversations of a task.

        Raises:
            DataError: at their end, when none showed an image, and the folder of the task holds
                one; or the dataset holds one, and none of its other tasks shows an image.
        """
        records = shown = 0
        for conversation in conversations:
            records += 1
            shown += bool(conversation.images)
            yield conversation
        if records and not shown:
            self._demand_no_image(task, records, job)

    def _demand_no_image(self, task: TaskFiles, records: int, job: Job) -> None:
        unseen = None if task.folder is None else first_image(task.folder)
        if unseen is None and not any(self._shows(t, job) for t in self.tasks if t != task):
            roots = (self.places.images, self.places.raw)
            unseen = next(filter(None, map(first_image, filter(None, roots))), None)
        if unseen is not None:
            key = job.choices.image
            column = f"no record holds one in {key!r}" if key else "name their column with --image"
            raise DataError(
                f"{task.name}: none of {records:,} records shows an image, but {unseen} is there;"
                f" {column}, or move the images away if the task is text alone",
                "missing-image",
            )

    def _shows(self, task: TaskFiles, job: Job) -> bool:
        """Whether some record of a task shows an image."""
        raw = self.places.raw
        patterns = chain.from_iterable(task.patterns.values())
        files = {pattern: matching(raw, pattern) for pattern in patterns}
        conversations = own_conversations(files, job, task.name, raw, False)
        return any(conversation.images for conversation in conversations)
