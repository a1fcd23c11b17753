"""A task whose records show no image beside images that are there: most likely they were not
found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cotbal.benchmarks.custom.folder import Found
from cotbal.benchmarks.custom.images import first_image
from cotbal.benchmarks.custom.rows import Own, own_conversations
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
    tasks: tuple[Found, ...]

    def guarded(self, task: Found, conversations: Iterable[Own], job: Job) -> Iterator[Own]:
        """The conversations of a task.

        Raises:
            DataError: at their end, when none showed an image, and the folder of the task holds
                one; or the dataset holds one, and none of its other tasks shows an image.
        """
        records = shown = 0
        for each in conversations:
            records += 1
            shown += bool(each.images)
            yield each
        if records and not shown:
            self._demand_none_there(task, records, job)

    def _demand_none_there(self, task: Found, records: int, job: Job) -> None:
        unseen = None if task.folder is None else first_image(task.folder)
        if unseen is None and not any(
            self._shows(each, job) for each in self.tasks if each != task
        ):
            roots = (self.places.images, self.places.raw)
            unseen = next(filter(None, map(first_image, filter(None, roots))), None)
        if unseen is not None:
            key = job.choices.image
            column = f"no record holds one in {key!r}" if key else "name their column with --image"
            raise DataError(
                f"{task.name}: none of {records:,} records shows an image, but {unseen} is there;"
                f" {column}, or move the images away if the task is text alone"
            )

    def _shows(self, task: Found, job: Job) -> bool:
        """Whether some record of a task shows an image."""
        raw = self.places.raw
        patterns = (pattern for split in task.patterns.values() for pattern in split)
        files = {pattern: matching(raw, pattern) for pattern in patterns}
        return any(each.images for each in own_conversations(files, job, task.name, raw, False))
