"""Runs one program and says what it took.

The system counts into a program's peak memory what the process had that started it. So this is a small process between the
benchmark, which holds tables, and the program; it imports next to nothing (10 MB).

    python3 -I -S measure.py < SPEC > MEASURED        both are JSON
"""

import json
import os
import signal
import sys
import threading
import time
from typing import Any


def main() -> None:
    spec = json.load(sys.stdin)
    opened = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, spec["stdout"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_OPEN, 2, spec["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
    ]
    started = time.perf_counter()
    pid = os.posix_spawn(spec["command"][0], spec["command"], os.environ, file_actions=opened)
    over = threading.Event()
    stopped: list[str] = []
    watcher = threading.Thread(target=watch, args=(pid, spec, over, stopped))
    watcher.start()
    try:
        # The program stays until wait4, so that the watcher cannot end another with its number.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        wall = time.perf_counter() - started
        over.set()
        watcher.join()
    except KeyboardInterrupt:
        os.kill(pid, signal.SIGKILL)
        raise
    _, status, usage = os.wait4(pid, 0)
    json.dump(
        {
            "code": os.waitstatus_to_exitcode(status),
            "wall": wall,
            "cpu": usage.ru_utime + usage.ru_stime,
            "peak_memory": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            "stopped": stopped[0] if stopped else None,
        },
        sys.stdout,
    )


def watch(pid: int, spec: dict[str, Any], over: threading.Event, stopped: list[str]) -> None:
    """Ends the program if it takes too long, or, where /proc tells, too much memory."""
    deadline = time.monotonic() + spec["timeout"]
    while not over.wait(0.05):
        memory = resident(pid)
        if time.monotonic() > deadline:
            stopped.append(f"ended after {spec['timeout']:g} s")
        elif memory > spec["stop_at_bytes"]:
            stopped.append(f"ended at {memory / 2**30:.1f} GiB of memory")
        else:
            continue
        os.kill(pid, signal.SIGKILL)
        return


def resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


if __name__ == "__main__":
    main()
