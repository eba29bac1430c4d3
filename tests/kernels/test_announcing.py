"""Who listens hears of what is compiled for the calling thread, wherever that is done, and of nothing else."""

import threading

import pytest

from kernels.process.announcing import announce, announced_to
from kernels.process.apart import apart


def in_a_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_the_last_to_listen_hears_of_it_and_nobody_afterwards():
    heard = []
    with announced_to(lambda: heard.append("outer")):
        announce()
        with announced_to(lambda: heard.append("inner")):
            announce()
        announce()
    announce()
    assert heard == ["outer", "inner", "outer"]


def test_nobody_listens_after_a_failure():
    heard = []
    with pytest.raises(ValueError, match="failed"), announced_to(lambda: heard.append(1)):
        raise ValueError("failed")
    announce()
    assert not heard


def test_what_is_compiled_apart_for_a_thread_is_heard_of():
    heard = []
    with announced_to(lambda: heard.append(threading.current_thread())):
        apart(announce)
    assert len(heard) == 1
    assert heard[0] is not threading.current_thread()


def test_what_another_thread_has_compiled_is_not():
    heard = []
    with announced_to(lambda: heard.append(1)):
        in_a_thread(announce)
    assert not heard
