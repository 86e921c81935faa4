"""Lock files and doorbells between processes of one host."""

import os
import subprocess
import sys
from pathlib import Path

from aob.process import Doorbell, FileLock

HOLDER = """
import sys
from aob.process import FileLock
lock = FileLock(sys.argv[1])
print(lock.take(), flush=True)
sys.stdin.read()
"""


def test_a_lock_excludes_others_of_the_same_process(tmp_path: Path) -> None:
    one, two = FileLock(str(tmp_path / "lock")), FileLock(str(tmp_path / "lock"))
    assert one.take()
    assert one.take()
    assert not two.take()
    one.drop()
    one.drop()
    assert (one.held, two.take(), two.held) == (False, True, True)
    two.drop()


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    lock = FileLock(str(tmp_path / "lock"))
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    assert not lock.take()
    holder.kill()
    holder.communicate()
    assert lock.take()
    lock.drop()


def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(tmp_path: Path) -> None:
    script = f"""
import os, sys
from aob.process import FileLock
lock = FileLock({str(tmp_path / "lock")!r})
assert lock.take()
if os.fork() == 0:
    print(lock.held, flush=True)
    sys.stdin.read()
    os._exit(0)
os.wait()
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "False\n"
    lock = FileLock(str(tmp_path / "lock"))
    assert not lock.take()
    parent.kill()
    parent.wait()
    assert lock.take()
    lock.drop()
    parent.communicate()


def rung(bell: Doorbell, fd: int) -> bool:
    try:
        return bool(os.read(fd, 16))
    except BlockingIOError:
        return False


def test_a_bell_rings_for_all_others_and_not_for_oneself(tmp_path: Path) -> None:
    bells = [Doorbell(tmp_path / "b") for _ in range(3)]
    fds = [bell.hang() for bell in bells]
    assert all(fd is not None for fd in fds)
    bells[0].ring()
    assert [rung(bell, fd or 0) for bell, fd in zip(bells, fds, strict=True)] == [False, True, True]
    for bell in bells:
        bell.close()
    assert os.listdir(tmp_path / "b") == []


def test_a_bell_hung_right_after_a_ring_is_heard_of_by_the_next(tmp_path: Path) -> None:
    ringing = Doorbell(tmp_path / "b")
    for _ in range(50):
        ringing.ring()
        bell = Doorbell(tmp_path / "b")
        fd = bell.hang()
        ringing.ring()
        assert fd is not None
        assert rung(bell, fd)
        bell.close()
    ringing.close()


def test_silence_forgets_the_rings_so_far(tmp_path: Path) -> None:
    ringing, bell = Doorbell(tmp_path / "b"), Doorbell(tmp_path / "b")
    fd = bell.hang()
    assert fd is not None
    for _ in range(5):
        ringing.ring()
    bell.silence()
    assert not rung(bell, fd)
    bell.close()
    ringing.close()


def test_a_bell_that_nobody_answers_does_not_stop_the_ringing(tmp_path: Path) -> None:
    ringing, bell = Doorbell(tmp_path / "b"), Doorbell(tmp_path / "b")
    fd = bell.hang()
    assert fd is not None
    for _ in range(2000):
        ringing.ring()
    assert rung(bell, fd)
    bell.close()
    ringing.close()


def test_where_a_bell_cannot_hang_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bell = Doorbell(tmp_path / "file" / "b")
    assert bell.hang() is None
    bell.ring()
    bell.close()


def test_a_ring_where_nobody_listens_is_no_error(tmp_path: Path) -> None:
    bell = Doorbell(tmp_path / "nowhere")
    bell.ring()
    bell.close()
