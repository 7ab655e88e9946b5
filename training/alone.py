"""Run a command that works on a set, while no other does: another waits, and then finds it done.

    python -m training.alone results/wmh make chain NAME=wmh

The Makefile runs a chain so. SIGTERM is passed on, which the shell between two makes does not do,
so that a training ends as it does on Ctrl-C. The lock goes with this process. If the command fails
before there is anything in the folder, it is removed.

Exit status: 0, or 2 if the command failed; 128 and the signal's number if one ended it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import filelock

from utils import remove, run_program

LOCK, ASKED = ".make", ".asked"  # ASKED: the runs that were asked for, which make keeps


def main(argv=None):
    folder, *command = argv or sys.argv[1:]
    folder = Path(folder)
    with held(folder):
        status = run(command)
        if status and not set(os.listdir(folder)) - {LOCK, ASKED}:
            remove(folder)
    return status


def held(folder):
    """The lock of a set's folder, which is made if it is not there."""
    lock, longest = filelock.FileLock(folder / LOCK), 0
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return lock.acquire(timeout=longest, poll_interval=0.5)
        except filelock.Timeout:
            print(f"{folder}: another make is working on it; waiting for it to end", flush=True)
            longest = -1
        except FileNotFoundError:  # the other one has removed the folder
            pass


def run(command):
    """Run a command with this program's signals; returns the exit status for it."""
    children, told = [], []

    def tell(*_):
        told.append(True)
        for child in children:
            child.terminate()

    signal.signal(signal.SIGTERM, tell)
    signal.signal(signal.SIGINT, lambda *_: None)  # a terminal sends it to the command as well
    # Files stay open: they are how makes share out their jobs
    with subprocess.Popen(command, close_fds=False) as child:
        children.append(child)
        if told:  # while it was started
            child.terminate()
        status = child.wait()
    return 128 - status if status < 0 else 2 if status else 0


if __name__ == "__main__":
    run_program(main)
