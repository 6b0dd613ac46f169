"""The start of the command line: `gadam`, or `python -m gadam`."""

import io
import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line, which a signal ends in one line at any moment, while modules are imported too.

    It ends the process at once, for an exception amid an import may come out as any other. A command that has
    something to put in order asks for an exception once its modules are there.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # a shell ignores it for processes in the background
            signal.signal(number, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # whatever its encoding is, a sign that it lacks stops nothing
            stream.reconfigure(errors="replace")
    from gadam import cli

    cli.main()


def _stop(number: int, frame: FrameType | None) -> None:
    os.write(2, f"gadam: stopped by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    main()
