"""What is done beside the training: one job at a time, in a thread.

The main thread takes each outcome before the next job begins, so that what jobs write follows the
order of the epochs.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress


class Background:
    """Inside it as a context, jobs may be begun; at its end none is left."""

    def __init__(self):
        self.pool, self.job, self.then = ThreadPoolExecutor(1), None, None

    def begin(self, do, then):
        """Have a thread call do(), once the job before is finished.

        The main thread calls then(what it returned) at the next `poll` or `finish` that finds it.
        """
        self.finish()
        self.job, self.then = self.pool.submit(do), then

    def poll(self):
        """Take the outcome of the job if it has one; what it raised is raised here."""
        if self.job and self.job.done():
            self.finish()

    def finish(self):
        """Wait for the job, if there is one, and take its outcome."""
        job, self.job = self.job, None
        if job:
            self.then(job.result())

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            # After an error a job is still brought to its end, and that error is the one told.
            with suppress(Exception) if kind else nullcontext():
                self.finish()
        finally:
            self.pool.shutdown()
