"""Ctrl-C and SIGTERM while a run trains: it ends after the step under way, which is kept."""

import signal

from utils import signals


class StopRequest:
    """Whether a signal has asked the run to stop.

    Args:
        run_folder: the RunFolder that keeps what there is.
        group: the parallel.Group of processes that train together; they stop together.
    """

    def __init__(self, run_folder, group):
        self.run_folder, self.group, self.numbers = run_folder, group, []

    def listening(self):
        """A context in which the first signal is noted; the second ends the process at once."""
        return signals(self.numbers.append)

    def obey(self):
        """End the program if a signal has asked for it; last.pt keeps the epoch under way.

        What the thread that writes has finished meanwhile is taken note of.
        """
        self.run_folder.background.poll()
        if not self.group.any(bool(self.numbers)):
            return
        self.run_folder.save_under_way()

        number = (self.numbers or [signal.SIGTERM])[0]  # another process may have been asked
        raise KeyboardInterrupt(number, f"{self.run_folder.path}: stopped in epoch "
                                        f"{self.run_folder.epoch}, every step so far is kept; the "
                                        "same command continues there")
