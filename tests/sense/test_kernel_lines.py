"""What lines of the kernel's log say, in each form that drivers and kernels have given them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.sense.kernel_lines import OomKillLine, XidLine, merged, parse_line

UNCLEAR = (
    "NVRM: Xid (PCI:0000:41:00): 13, pid='<unknown>', name=<unknown>, Graphics SM Warp Exception on (GPC 7)"
)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=llama-server, GPU has fallen off the bus.",
            XidLine("0000:3b:00", 79, "GPU has fallen off the bus.", 1234),
        ),
        (UNCLEAR, XidLine("0000:41:00", 13, "Graphics SM Warp Exception on (GPC 7)")),
        (
            "NVRM: Xid (PCI:0000:08:00): 31, Ch 0000003b, intr 10000000. MMU Fault: ENGINE GRAPHICS",
            XidLine("0000:08:00", 31, "Ch 0000003b, intr 10000000. MMU Fault: ENGINE GRAPHICS"),
        ),
        (
            "NVRM: Xid (PCI:0000:08:00): 31, pid=79749, name=exe, Ch 0000000a, intr 00000000. MMU Fault",
            XidLine("0000:08:00", 31, "Ch 0000000a, intr 00000000. MMU Fault", 79749),
        ),
        (
            "NVRM: Xid (PCI:0000:01:00): 43, pid=2341, Ch 00000008",
            XidLine("0000:01:00", 43, "Ch 00000008", 2341),
        ),
        ("NVRM: Xid (0000:03:00): 14, Channel 00000001", XidLine("0000:03:00", 14, "Channel 00000001")),
        ("NVRM: Xid (PCI:0000:01:00): 48", XidLine("0000:01:00", 48, "")),
        (
            "NVRM: Xid (PCI:0000:07:00 GPU-I:05): 94, pid=7, name=python3, Contained: SM (0x1)",
            XidLine("0000:07:00", 94, "Contained: SM (0x1)", 7),
        ),
        (
            "NVRM: Xid (PCI:0009:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset)",
            XidLine("0009:01:00", 154, "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset)"),
        ),
        (
            "NVRM: GPU 0000:29:00.0: GPU has fallen off the bus.",
            XidLine("0000:29:00", 79, "GPU has fallen off the bus", companion=True),
        ),
        # A name of a process that would be another one; and pids that there cannot be.
        (
            "NVRM: Xid (PCI:0000:3b:00): 31, pid=12, name=x) pid=1, Ch 1",
            XidLine("0000:3b:00", 31, "Ch 1", 12),
        ),
        ("NVRM: Xid (PCI:0000:3b:00): 31, pid=0, name=x, Ch 1", XidLine("0000:3b:00", 31, "Ch 1")),
        ("NVRM: Xid (PCI:0000:3b:00): 31, pid=99999999, Ch 1", XidLine("0000:3b:00", 31, "Ch 1")),
    ],
)
def test_an_xid_is_read_in_each_of_its_forms(line: str, said: XidLine) -> None:
    assert parse_line(line) == said


@pytest.mark.parametrize(
    "line",
    [
        "",
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.54.14",
        "NVRM: Xid error: xyz, invalid data",
        "NVRM: Xid (invalid): 79, some error",
        "NVRM: Xid (PCI:0000:3b:00): many",
        "NVRM: Xid (PCI:0000:3b:00): 123456, too long a code",
        "somebody says NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.",
        "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 23 LTSSM Fault Up",
        "oom_reaper: reaped process 1234 (python3), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,task=x,pid=0,uid=0",
        "python3 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
        "Memory cgroup out of memory: Killed process x (python3) total-vm:1kB, anon-rss:1kB, file-rss:0kB",
    ],
)
def test_other_lines_say_nothing(line: str) -> None:
    assert parse_line(line) is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            (
                "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
                "oom_memcg=/gpu.slice,task_memcg=/gpu.slice/chat,task=llama-server,pid=1234,uid=1000"
            ),
            OomKillLine(1234, "llama-server", "the cgroup /gpu.slice/chat"),
        ),
        (
            (
                "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=user.slice,mems_allowed=0,"
                "global_oom,task_memcg=/user.slice,task=python3,pid=81,uid=0"
            ),
            OomKillLine(81, "python3", "the machine"),
        ),
        # Without cgroups, and with a name that would be another process.
        (
            "oom-kill:constraint=CONSTRAINT_CPUSET,nodemask=0,task=a,pid=1,uid=0,pid=82,uid=0",
            OomKillLine(82, "a,pid=1,uid=0", "the NUMA nodes of its cpuset"),
        ),
        (
            (
                "Out of memory: Killed process 1234 (llama-server) total-vm:9000kB, anon-rss:8000kB,"
                " file-rss:16kB, shmem-rss:4kB, UID:1000 pgtables:40kB oom_score_adj:0"
            ),
            OomKillLine(1234, "llama-server", None, 8_192_000, 16_384, 4096),
        ),
        (
            "Memory cgroup out of memory: Killed process 55 (a) b) total-vm:1kB, anon-rss:2kB, file-rss:3kB",
            OomKillLine(55, "a) b", None, 2048, 3072, None),
        ),
        (
            "Killed process 77 (python), UID 1000, total-vm:10kB, anon-rss:8kB, file-rss:0kB, shmem-rss:0kB",
            OomKillLine(77, "python", None, 8192, 0, 0),
        ),
    ],
)
def test_a_kill_for_want_of_memory_is_read_in_each_of_its_forms(line: str, said: OomKillLine) -> None:
    assert parse_line(line) == said


def test_two_lines_about_one_kill_say_more_together() -> None:
    before = OomKillLine(1, "chat", "the machine")
    after = OomKillLine(1, "chat", None, 3, 2, 1)
    whole = OomKillLine(1, "chat", "the machine", 3, 2, 1)
    assert merged(before, after) == whole
    assert merged(after, before) == whole


def test_a_long_line_is_kept_short_and_an_odd_one_printable() -> None:
    said = parse_line(f"NVRM: Xid (PCI:0000:3b:00): 31, {'x' * 100_000}")
    assert isinstance(said, XidLine)
    assert said.text == "x" * 200 + "..."
    said = parse_line("NVRM: Xid (PCI:0000:3b:00): 31, a\x1b[31mb\x00")
    assert isinstance(said, XidLine)
    assert said.text == "a?[31mb?"


BEGINS = st.sampled_from(
    [
        "",
        "NVRM: ",
        "NVRM: Xid (PCI:0000:3b:00): 79, ",
        "NVRM: Xid (PCI:0000:3b:00): 79, pid=",
        "NVRM: GPU ",
        "oom-kill:constraint=CONSTRAINT_NONE,task_memcg=",
        "oom-kill:constraint=",
        "Out of memory: Killed process ",
        "Killed process 1 (",
    ]
)
ENDS = st.sampled_from(["", ",pid=1,uid=0", ") total-vm:1kB, anon-rss:1kB, file-rss:1kB", ": GPU has fallen"])


@given(BEGINS, st.text(max_size=400), ENDS)
def test_no_line_is_too_odd_to_be_read(begin: str, middle: str, end: str) -> None:
    said = parse_line(begin + middle + end)
    if isinstance(said, XidLine):
        assert 0 <= said.code <= 9999
    if said is not None:
        assert said.pid is None or 0 < said.pid <= 1 << 22
        assert str(said).isprintable()


@given(st.integers(1, 1 << 22), st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=15))
def test_whatever_a_process_calls_itself_its_pid_is_the_one_of_the_kernel(pid: int, name: str) -> None:
    summary = f"oom-kill:constraint=CONSTRAINT_NONE,task_memcg=/a,task={name},pid={pid},uid=0"
    sizes = "total-vm:1kB, anon-rss:1kB, file-rss:1kB, shmem-rss:1kB"
    for line in (summary, f"Out of memory: Killed process {pid} ({name}) {sizes}"):
        said = parse_line(line)
        assert said is not None
        assert said.pid == pid
