"""What a first review of the decisions found: each of these was once otherwise."""

from decide.world import GIB, World, worker
from supervisor.decide.glance import is_short
from supervisor.model.action import Kill, Signal
from supervisor.model.news import Shutdown
from supervisor.model.phase import Phase
from supervisor.model.snapshot import HostSample


def three() -> World:
    world = World(worker("a"), worker("b"), worker("c"))
    world.settle()
    world.tree("b").memory_bytes = 5 * GIB
    world.pass_s(2.0)
    return world


def test_the_victim_is_the_one_that_is_largest_now() -> None:
    world = three()
    world.tree("c").memory_bytes = 20 * GIB  # since the last look
    world.available = GIB - 1
    world.turn()
    assert [one.worker for one in world.did(Kill)] == ["c"]


def test_the_first_turn_of_a_daemon_that_starts_in_an_emergency_ends_the_largest() -> None:
    world = three()
    world.crash()
    world.available = GIB - 1
    world.turn()
    assert [one.worker for one in world.did(Kill)] == ["b"]


def test_a_daemon_that_is_killed_in_an_emergency_has_no_second_victim_beside_the_first() -> None:
    world = three()
    world.tree("b").obeys = False
    world.available = 2 * GIB - 1
    world.turn()
    assert [one.worker for one in world.did(Signal)] == ["b"]
    world.crash()
    world.pass_s(1.5)
    assert {one.worker for one in world.log if isinstance(one, Signal)} == {"b"}
    assert world.phase("c") is Phase.READY


def test_every_worker_is_read_again_where_one_may_have_to_go() -> None:
    world = three()
    floor = HostSample(0.0, memory_total_bytes=64 * GIB, memory_available_bytes=2 * GIB - 1)
    enough = HostSample(0.0, memory_total_bytes=64 * GIB, memory_available_bytes=3 * GIB)
    assert is_short(world.plan, world.memory, floor)
    assert not is_short(world.plan, world.memory, enough)


def test_what_sigkill_does_not_end_does_not_keep_the_daemon_from_ending() -> None:
    world = three()
    world.tree("b").obeys = False
    world.tree("b").killable = False
    world.pass_s(1.0, Shutdown())
    assert world.phase("a") is Phase.STOPPED
    world.pass_s(120.0 + 28.0)  # the stop timeout, and as long as SIGKILL is given
    assert not world.done
    world.pass_s(3.0)
    assert world.done
    assert world.phase("b") is Phase.KILLING
    world.crash()
    world.settle()
    assert world.phase("b") is Phase.KILLING  # the next daemon goes on with it, and starts nothing beside it
