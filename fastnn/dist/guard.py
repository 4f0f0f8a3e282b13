"""A small process beside the ranks of a machine, which outlives them: it says which one was killed, while the launcher kills the others.

Run as a script, by itself: python guard.py ADDRESS PROCESS NAME PROCESS NAME ... It writes one byte when it watches, and ends when a rank tells that
address that it ends as it should, or with the first one that ends without. Where the launcher leaves the others, it ends them.
"""

import os
import select
import signal
import socket
import sys
import time

GRACE = 1.0  # seconds that the launcher has


def main(address: str, *pairs: str) -> None:
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(f"\0{address}")
    poll, names = select.poll(), {}
    poll.register(told, select.POLLIN)
    for process, name in zip(pairs[::2], pairs[1::2]):
        file = os.pidfd_open(int(process))
        names[file] = name
        poll.register(file, select.POLLIN)
    os.write(1, b"x")
    gone = [file for file, _ in poll.poll()]
    if told.fileno() in gone:
        return
    lost = " or ".join(names[file] for file in gone)
    os.write(2, f"fastnn.dist: {lost} is lost: killed, or ended without a word; the others end with it\n".encode())
    time.sleep(GRACE)
    for file in names:
        try:
            signal.pidfd_send_signal(file, signal.SIGKILL)
        except ProcessLookupError:
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
