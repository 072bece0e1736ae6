"""Start the command line many times at the price of a fork.

`python -m tests.campaign.nursery` imports the program once. Each line on its standard input is a
JSON list: when to be killed (`aimed`), a file for the output, and the words of a command line. A
child process carries it out, and its process number is answered. An empty line waits for the child
and answers with its exit code, negative for a signal.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.campaign.aimed import aim
from tests.campaign.runs import environment, wait_until_listening


class Nursery:
    """The process that starts command lines, as tests see it."""

    def __init__(self, **variables):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(**variables),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(self, output, *words, aim=()):
        """Begin a command line, to be killed where `aim` says; return its process number."""
        return int(self._ask(json.dumps([list(aim), str(output), *map(str, words)])))

    def wait(self):
        """Return the exit code of what was begun last."""
        return int(self._ask(""))

    def _ask(self, line):
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


def serve():
    from latticesearch import campaign, cli, report  # noqa: F401 - so that children have them
    from latticesearch.__main__ import start

    child = 0
    for line in sys.stdin:
        if line.strip():
            child = begin(start, *json.loads(line))
            answer = child
        else:
            _, status = os.waitpid(child, 0)
            answer = os.waitstatus_to_exitcode(status)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def begin(start, when, output, *words):
    child = os.fork()
    if child:
        # Before the program has begun a signal ends it as any other.
        wait_until_listening(child)
        return child
    code = 1
    try:
        with open(output, "w", encoding="utf-8") as file:  # noqa: PTH123 - for its descriptor
            for number in (1, 2):
                os.dup2(file.fileno(), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if when:
            aim(*when)
        code = start(list(words))
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
