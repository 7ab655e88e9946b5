"""A python that starts at once, for tests that start many programs, as make does.

`path()` is an executable that runs a program in a process forked from one that has imported torch,
scipy, matplotlib and the like, which take a program two to four seconds of processor time each time
it starts. It gets its arguments, folder, environment and files from the caller, ends with the
program's status, and knows `python [-u] FILE ...` and `python [-u] -m MODULE ...`. The programs
themselves are imported anew by each.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARIES = ("torch", "torch._dynamo", "scipy.ndimage", "scipy.stats", "nibabel", "pydantic",
             "matplotlib.figure", "matplotlib.backends.backend_agg",
             "matplotlib.backends.backend_pdf", "jinja2", "tqdm", "filelock",
             "torch.distributed.launcher.api")
CLIENT = """#!{python} -IS
import json, os, socket, sys
words = sys.argv[2:] if sys.argv[1:2] == ["-u"] else sys.argv[1:]  # lines go out at once anyway
if words and (words[0] == "-m" or not words[0].startswith("-")):
    with socket.socket(socket.AF_UNIX) as server:
        server.connect({socket!r})
        told = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
        socket.send_fds(server, [len(told).to_bytes(4, "big")], [0, 1, 2])
        server.sendall(told)
        status = server.recv(1)
    sys.exit(status[0] if status else 1)
os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""


@functools.cache
def path():
    """The executable; the process that forks starts with the first call and ends with pytest."""
    folder = tempfile.TemporaryDirectory(prefix="python-")
    place = os.path.join(folder.name, "socket")
    client = Path(folder.name) / "python"
    client.write_text(CLIENT.format(python=sys.executable, socket=place))
    client.chmod(0o755)

    server = subprocess.Popen([sys.executable, __file__, place], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    server.stdout.readline()  # it listens
    atexit.register(folder.cleanup)
    atexit.register(server.stdin.close)
    return str(client)


def serve(place):
    """Fork for each caller until stdin ends; returns the words of a program in its process."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        print("listening", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            caller, _ = listener.accept()
            if not os.fork():
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                if words := started(caller):
                    return words
            caller.close()
    return None


def started(caller):
    """Fork a caller's program. Its process returns the words; the other tells how it ended."""
    size, files, _, _ = socket.recv_fds(caller, 4, 3)
    words, folder, environment = json.loads(caller.recv(int.from_bytes(size, "big"),
                                                        socket.MSG_WAITALL))
    if child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        caller.sendall(bytes([code if code >= 0 else 128 - code]))
        os._exit(0)

    caller.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, buffering=1, encoding="utf-8", closefd=False)
        for number, mode in enumerate(("r", "w", "w")))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return words


def become(words):
    """Run a program in this process, as python would."""
    module, program = words[0] == "-m", words[words[0] == "-m"]
    sys.argv = words[module:]
    sys.path[0] = os.getcwd() if module else os.path.abspath(os.path.dirname(program))
    if module:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    if command := serve(sys.argv[1]):
        become(command)
