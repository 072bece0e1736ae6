"""Calculations in the queue of a cluster: array jobs over the folders of the calculations.

One protocol for here and there: a job is written to the folder of its attempt, whoever computes
it writes the reply there, and the campaign takes it up whenever it comes by. In between the
campaign's process may end. `files` says what lies in the folders, `slurm` talks to the queue,
`task` is what runs on a node, `dispatch` is the campaign's side.
"""

from __future__ import annotations

from latticesearch.oracles.queue.dispatch import QueueDispatch, in_the_queue
from latticesearch.oracles.queue.resources import ElementResources, Queue, Resources
from latticesearch.oracles.queue.slurm import Slurm

__all__ = ["ElementResources", "Queue", "QueueDispatch", "Resources", "Slurm", "in_the_queue"]
