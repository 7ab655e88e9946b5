"""training.alone: one command at a time works on a set's folder, and signals reach it."""

import signal
import subprocess
import sys

import pytest

from checkout import ROOT


def alone(folder, script, **more):
    return subprocess.Popen([sys.executable, "-m", "training.alone", folder, "sh", "-c", script],
                            cwd=ROOT, stdout=subprocess.PIPE, text=True, **more)


@pytest.mark.parametrize("script, status", [("true", 0), ("exit 7", 2), ("kill -KILL $$", 137)])
def test_the_status_says_how_the_command_ended(tmp_path, script, status):
    folder = tmp_path / "results" / "mine"
    with alone(folder, script) as running:
        assert running.wait(60) == status
    assert folder.exists() == (status == 0)


def test_a_failure_keeps_a_folder_in_which_there_is_something(tmp_path):
    with alone(tmp_path / "mine", f"touch {tmp_path}/mine/.asked {tmp_path}/mine/x; exit 1") as run:
        assert run.wait(60) == 2
    assert (tmp_path / "mine" / "x").exists()


def test_sigterm_reaches_the_command(tmp_path):
    script = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    with alone(tmp_path / "mine", script) as running:
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGTERM)
        assert running.stdout.read() == "told\n" and running.wait(60) == 2


def test_a_second_one_waits_for_the_first_even_if_that_removes_the_folder(tmp_path):
    folder = tmp_path / "mine"
    with alone(folder, "echo ready; read line; exit 1", stdin=subprocess.PIPE) as first:
        assert first.stdout.readline() == "ready\n"
        with alone(folder, f"touch {folder}/done") as second:
            assert second.stdout.readline() == (
                f"{folder}: another make is working on it; waiting for it to end\n")
            first.communicate("\n", timeout=60)
            assert first.returncode == 2 and second.wait(60) == 0
    assert (folder / "done").exists() and (folder / ".make").exists()


def test_ctrl_c_ends_the_wait_in_one_line(tmp_path):
    with alone(tmp_path / "mine", "echo ready; read line", stdin=subprocess.PIPE) as first:
        assert first.stdout.readline() == "ready\n"
        with alone(tmp_path / "mine", "true", stderr=subprocess.PIPE) as second:
            assert "waiting for it to end" in second.stdout.readline()
            second.send_signal(signal.SIGINT)
            assert second.wait(60) == 130
            assert len(second.stderr.read().splitlines()) == 1
        first.communicate("\n", timeout=60)
