# SPDX-License-Identifier: MIT
"""Who may go, and how many may come: what is, against what should be.

It decides numbers only, and changes nothing; `machine` acts on them. What should be:

* `target` members (booting or ready), all of the present generation;
* a worker that is to be replaced is RETIRING: it serves until enough others are ready. That
  is true of old workers in a reload, of new ones after it is rolled back, and of one that
  is recycled (see `recycling`) or has a stuck request.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from prefork.supervisor.children import MEMBERS, SERVING, Child, Children, State

if TYPE_CHECKING:
    from prefork.supervisor.messages import Policy

RETIRING_SHARE: Final = 10
"""At most one worker in so many is recycled at once."""
BATCH_SHARE: Final = 4
"""One worker in so many boots at once in a reload, unless the settings say how many."""


@dataclass(slots=True)
class Rollout:
    """A reload that is not complete, and what to return to."""

    began: float
    old_generation: int
    old_policy: Policy
    old_target: int
    proven_at: float = inf
    """When the first new worker will have lived long enough."""
    old_shift: int = 0
    """By how much the operator had moved min_workers and max_workers."""


def missing(children: Children, target: int) -> int:
    """Return how many members there are too few; negative for too many."""
    return target - len(children.among(*MEMBERS))


def surplus(children: Children, target: int) -> list[Child]:
    """Return the members that are too many: the youngest that boot, else the oldest that are ready."""
    candidates = children.among(State.BOOTING)[::-1] + children.among(State.READY)
    return candidates[: max(0, -missing(children, target))]


def spare(children: Children, target: int, rollout: Rollout | None, now: float) -> list[Child]:
    """Return the retiring workers that are not needed any more.

    Args:
        children: the table.
        target: how many members there should be.
        rollout: the reload that is under way.
        now: the time.
    """
    retiring = children.among(State.RETIRING)
    needed = target
    if rollout is not None:
        needed = max(needed, rollout.old_target)
        # First those of a reload that was given up for this one. Those of the generation to
        # return to only go when a new worker has lived for a while.
        newer = [child for child in retiring if child.generation != rollout.old_generation]
        old = [child for child in retiring if child.generation == rollout.old_generation]
        retiring = newer + (old if now >= rollout.proven_at else [])
    return retiring[: max(0, len(children.among(*SERVING)) - needed)]


def retirements(children: Children, target: int, rollout: Rollout | None) -> list[Child]:
    """Return the workers that want a successor and may have one now.

    Those on their way out count too: their memory is still in use. During a reload nobody
    may: it replaces them anyway. Who has a stuck request goes first.

    Args:
        children: the table.
        target: how many members there should be.
        rollout: the reload that is under way.
    """
    if rollout is not None:
        return []
    leaving = len(children.among(State.RETIRING, State.STOPPING))
    asking = [child for child in children.among(State.READY) if child.wants_successor]
    asking.sort(key=lambda child: child.stuck is None)
    return asking[: max(0, max(1, target // RETIRING_SHARE) - leaving)]


def vacancies(children: Children, target: int, rollout: Rollout | None, policy: Policy) -> int:
    """Return how many workers there is need and room for.

    A reload needs memory for a batch more than before it, and no more.

    Args:
        children: the table.
        target: how many members there should be.
        rollout: the reload that is under way.
        policy: of the present generation.
    """
    wanted = missing(children, target)
    if rollout is not None:
        booting = len(children.among(State.BOOTING))
        serving = len(children.among(*SERVING))
        batch = policy.reload_batch or max(1, target // BATCH_SHARE)
        most = max(target, rollout.old_target) + batch
        wanted = min(wanted, batch - booting, most - serving - booting)
    return max(0, min(wanted, children.free))


def is_complete(children: Children, target: int, rollout: Rollout, now: float) -> bool:
    """Say whether a reload has all the workers that it needs, and the first has lived for a while."""
    if len(children.among(State.READY)) < target:
        return False
    return target == 0 or now >= rollout.proven_at
