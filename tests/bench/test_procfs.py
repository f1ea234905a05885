"""What /proc says of processes, from a made-up /proc and from the real one."""

import os
import subprocess
import sys
import time

import pytest

from bench.procfs import CpuTime, Others, busy_s, cpu_time, family, forget_peak, memory, parse_stat

TICKS = os.sysconf("SC_CLK_TCK")


def stat(name="worker", utime=0, stime=0, cutime=0, cstime=0):
    return f"42 ({name}) S 1 42 42 0 -1 4194304 11 12 13 14 {utime} {stime} {cutime} {cstime} 20 0 1 0 99 100 200"


def process(proc, pid, children=(), threads=(), **times):
    for task in (pid, *threads):
        folder = proc / str(pid) / "task" / str(task)
        folder.mkdir(parents=True)
        (folder / "children").write_text("")
    (proc / str(pid) / "task" / str(pid) / "children").write_text(" ".join(map(str, children)) + " ")
    (proc / str(pid) / "stat").write_text(stat(**times))


def test_user_and_system_are_the_fourteenth_and_fifteenth_field():
    """proc(5): (14) utime, (15) stime, (16) cutime, (17) cstime, measured in clock ticks."""
    assert parse_stat(stat(utime=3 * TICKS, stime=TICKS)) == CpuTime(3.0, 1.0)


def test_a_program_s_name_may_hold_spaces_and_parentheses():
    assert parse_stat(stat(name="a) R 1 (b", utime=TICKS)) == CpuTime(1.0, 0.0)


def test_what_ended_children_have_used_counts():
    assert parse_stat(stat(utime=TICKS, cutime=TICKS, cstime=2 * TICKS)) == CpuTime(2.0, 2.0)


def test_a_family_is_a_process_and_all_its_descendants_whichever_thread_made_them(tmp_path):
    process(tmp_path, 10, children=(11,), threads=(20,), utime=TICKS)
    (tmp_path / "10" / "task" / "20" / "children").write_text("12 ")
    process(tmp_path, 11, children=(13,), utime=2 * TICKS)
    process(tmp_path, 12, utime=4 * TICKS)
    process(tmp_path, 13, stime=8 * TICKS)
    process(tmp_path, 99, utime=100 * TICKS)
    assert sorted(family(10, tmp_path)) == [10, 11, 12, 13]
    assert cpu_time(10, tmp_path) == CpuTime(7.0, 8.0)


def test_a_descendant_that_is_gone_by_now_is_no_error(tmp_path):
    process(tmp_path, 10, children=(11,), utime=TICKS)
    assert cpu_time(10, tmp_path) == CpuTime(1.0, 0.0)


def test_a_child_that_burns_for_half_a_second_is_seen_through_its_parent():
    code = (
        "import subprocess, sys, time\n"
        "burn = 'import time\\nend = time.process_time() + 0.5\\nwhile time.process_time() < end: pass'\n"
        "subprocess.run([sys.executable, '-c', burn])\n"
        "print('done', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        parent.stdout.readline()
        used = cpu_time(parent.pid)
        parent.stdin.close()
    assert 0.4 < used.user_s + used.system_s < 2.0


def test_the_peak_begins_again_when_it_is_told_to():
    code = (
        "block = bytearray(64 << 20)\n"
        "print('held', flush=True)\n"
        "input()\n"
        "del block\n"
        "print('freed', flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        held = memory(child.pid)
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        freed = memory(child.pid)
        try:
            forget_peak(child.pid)
        except PermissionError:
            child.kill()
            pytest.skip("clear_refs may not be written here")
        again = memory(child.pid)
        child.kill()
    assert held.rss - freed.rss > 50
    assert freed.peak > held.rss - 1  # the kernel sums up its counters now and then
    assert again.peak < freed.peak - 50


def test_the_cores_work_is_all_but_idle_and_waiting(tmp_path):
    """proc(5): user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice; guest is part of user."""
    one = TICKS
    (tmp_path / "stat").write_text(f"cpu  {one} {one} {one} {90 * one} {9 * one} {one} {one} {one} {one} 0\ncpu0 1 1\n")
    assert busy_s(tmp_path) == 6.0
    assert busy_s() > 0


def test_a_neighbour_s_work_is_others_and_a_child_s_is_not():
    burn = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
    stolen = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', sys.argv[1]]).pid"

    def busy_for(*argv):
        others = Others(1)
        used, began = busy_s(), time.monotonic()
        subprocess.run([sys.executable, "-c", *argv], check=True)
        time.sleep(max(0.0, began + 1.5 - time.monotonic()))
        return others.share() * (time.monotonic() - began), busy_s() - used

    by_child, all_busy = busy_for(burn)
    assert by_child < all_busy - 0.3
    by_orphan, all_busy = busy_for(stolen, burn)  # its parent is gone: nobody's child
    assert by_orphan > 0.3


def test_memory_of_a_process_that_is_gone_is_an_error():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    time.sleep(0.01)
    with pytest.raises(OSError):
        memory(child.pid)
