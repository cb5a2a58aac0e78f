"""The table of phases and events."""

from itertools import product

import pytest

from supervisor.decide.lifecycle import GOING, LIVING, MOVES, STALE, Event, ImpossibleMoveError, move
from supervisor.model.phase import Phase


def table() -> str:
    """Print the table: a row for each phase, a column for each event, `=` for stale news, `-` for a bug."""
    rows = [f"{'':11}" + "".join(f"{event:>11}" for event in Event)]
    for phase in Phase:
        cells = [str(MOVES.get((phase, event), "=" if (phase, event) in STALE else "-")) for event in Event]
        rows.append(f"{phase:11}" + "".join(f"{cell:>11}" for cell in cells))
    return "\n".join(rows)


def test_every_pair_moves_or_is_stale_or_is_a_bug() -> None:
    print(table())  # noqa: T201 - shown with -s
    for phase, event in product(Phase, Event):
        if (phase, event) in MOVES:
            assert move(phase, event) is MOVES[phase, event]
        elif (phase, event) in STALE:
            assert move(phase, event) is phase
        else:
            with pytest.raises(ImpossibleMoveError, match=f"{event} while {phase}"):
                move(phase, event)


def test_no_pair_is_both_a_move_and_stale() -> None:
    assert not set(MOVES) & STALE


@pytest.mark.parametrize("home", [Phase.READY, Phase.STOPPED])
def test_from_every_phase_there_is_a_way_home(home: Phase) -> None:
    reached = {home}
    while more := {before for (before, _), after in MOVES.items() if after in reached} - reached:
        reached |= more
    assert reached == set(Phase)


def test_a_life_ends_only_by_reclaiming() -> None:
    leaving = {
        (before, after) for (before, _), after in MOVES.items() if before in LIVING and after not in LIVING
    }
    assert {before for before, _ in leaving} == {Phase.RECLAIMING}


def test_whoever_is_going_never_comes_back_without_a_new_life() -> None:
    for (before, _), after in MOVES.items():
        if before in GOING:
            assert after not in {Phase.STARTING, Phase.READY}
