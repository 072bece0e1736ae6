"""What stands for Slurm where there is none: commands that a test tells what to say.

``sbatch`` notes the script and gives it a number; nothing runs until the test runs it. ``squeue``
says that jobs wait until the test says something else. Shell scripts, because they start at once.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_SBATCH = """#!/bin/sh
[ "$1" = --version ] && exit 0
if [ -f "{folder}/refusal" ]; then cat "{folder}/refusal" >&2; exit 1; fi
echo "$2" >>"{folder}/scripts"
name=$(sed -n 's/^#SBATCH --job-name=//p' "$2")
for task in $(seq 0 "$(sed -n 's/^#SBATCH --array=0-//p' "$2")"); do
    echo "$name|$task|PENDING" >>"{folder}/states"
done
wc -l <"{folder}/scripts" | tr -d ' '
"""
_SQUEUE = """#!/bin/sh
[ "$1" = --version ] && exit 0
[ -f "{folder}/silent" ] && exit 1
cat "{folder}/states"
"""


class FakeSlurm:
    """The commands, in ``folder/bin``, which has to be in PATH."""

    def __init__(self, folder: Path):
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir(parents=True)
        for name, text in (("sbatch", _SBATCH), ("squeue", _SQUEUE)):
            (self.bin / name).write_text(text.format(folder=folder))
            (self.bin / name).chmod(0o755)
        for name in ("scripts", "states"):
            (folder / name).touch()

    @property
    def scripts(self):
        """Return the scripts of the array jobs that were handed over, in this order."""
        return [Path(line) for line in (self.folder / "scripts").read_text().splitlines()]

    def say(self, *states, job=-1):
        """Let the jobs of an array, by default of the last one, be in these states.

        Those whose state is empty are not known any more.
        """
        name, file = self.scripts[job].parent.name, self.folder / "states"
        lines = [line for line in file.read_text().splitlines() if line.split("|")[0] != name]
        lines += [f"{name}|{task}|{state}" for task, state in enumerate(states) if state]
        file.write_text("".join(f"{line}\n" for line in lines))

    def refuse(self, text):
        """Take no job any more, or again where the text is empty."""
        (self.folder / "refusal").unlink(missing_ok=True)
        if text:
            (self.folder / "refusal").write_text(text)

    def run(self, task, job=-1):
        """Run one job of an array to its end; return its exit code."""
        variables = {**os.environ, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_JOB_ID": "1"}
        return subprocess.run(["bash", self.scripts[job]], env=variables, check=False).returncode
