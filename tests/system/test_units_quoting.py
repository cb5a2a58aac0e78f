"""What a unit's text says is what the program gets: hostile words through the renderer and a real systemd.

Hypothesis makes the words, the same in each run; a shell in each unit copies its arguments and its
environment to files in its directory, and these are compared byte by byte.
"""

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from supervisor.model.plan import WorkerPlan
from supervisor.systemd.units import UnitPlaces, unit_name, worker_unit
from support.vm.machine import Machine

AT: Final = "/srv/quoting"
COPY: Final = "cat /proc/$$/cmdline >cmdline; cat /proc/$$/environ >environ; pwd -P >directory"
BATCHES: Final = 40
WORDS: Final = 12  # in each
LONGEST: Final = 131071

# fmt: off
HANDPICKED: Final = (
    "", " ", "  ", "\t", "\n", "\r", "\r\n", "\v\f", "\x01", "\x1b[31m", "\x7f", "\x80", "\x85",
    "\u2028", "\ufeff",
    ";", "\\;", ";;", "; true", "a;b", "#", "# no comment", "[Service]", "ExecStart=/bin/false", "=", "A=b",
    "%", "%%", "%n", "%i%I", "%%n", "100%", "%h/%%", "%{x}", "\nUser=x",
    "$", "$$", "$$$", "$HOME", "${HOME}", "$$HOME", "a${b}c",
    '"', "'", "''", '""', "\"'", "'a b'", '"a b"', 'a"b', '\\"', "\\'", '\\\\"', "it's", '"quoted" and not',
    "\\", "\\\\", "\\\\\\", "a\\", "a\\\n", "\\n", "\\x41", "\\101", "\\u00e9", "\\s", "\\z",
    "\\x00", "\\\n b", "\\ ",
    "é", "日本語", "🦙", "e\u0301", "\u00a0", "\u202eabc", "\U0010fffd", "ß", "\u200b",
    "-", "--", "-n", "@", "!", "!!", "+", ":", "|", "*", "?", "[a]", "~", "`id`", "$(id)",
    "&&", ">x", "<", "{a,b}", "{}",
    " lead", "trail ", "two  blanks", "tab\tin", "line\nbreak", "a\n\nb\n", "x" * 5000, "%" * 999, "\\" * 999,
)
# fmt: on
CHARACTERS: Final = st.characters(exclude_categories=("Cs", "Cn"), exclude_characters="\0")
PIECES: Final = st.one_of(
    st.sampled_from([*"\"'\\%$;{} \t\n\r=@:-+!#~\x01\x7f", *HANDPICKED[:80]]), CHARACTERS
)
WORD: Final = st.lists(PIECES, max_size=12).map("".join)
# A file's name: no slash. The test's own harness takes no line break in it, and neither does a unit.
NAME: Final = WORD.map(lambda word: word.translate(str.maketrans("", "", "/\n\r"))[:60].strip(".")).filter(
    lambda name: 0 < len(name.encode()) < 200
)


@dataclass(frozen=True)
class Case:
    """What one worker is told, word for word."""

    words: Sequence[str]
    variables: Mapping[str, str]
    folder: str = "plain"
    file: str = "plain.env"

    @property
    def directory(self) -> str:
        """Return where it works."""
        return f"{AT}/cases/{self.folder}"


CASES: Final = st.builds(
    Case,
    words=st.lists(WORD, min_size=WORDS, max_size=WORDS),
    variables=st.dictionaries(
        st.from_regex(r"V_[A-Za-z0-9_]{1,8}", fullmatch=True), WORD, min_size=6, max_size=6
    ),
    folder=NAME,
    file=NAME,
)


def drawn(count: int) -> list[Case]:
    """Return `count` cases, the same each time."""
    found: list[Case] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        deadline=None,
    )
    @given(CASES)
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found


def cases() -> dict[str, Case]:
    """Return every case, by the name of its worker."""
    chosen = [
        Case(HANDPICKED, {f"V_{n}": word for n, word in enumerate(HANDPICKED)}),
        Case(["x" * LONGEST, '"' * LONGEST, "é" * (LONGEST // 2)], {"V_L": "y" * (LONGEST - len("V_L="))}),
        Case(["a" * LONGEST] * 7, {}),  # nearly the 1 MiB of a line
        *(
            Case([], {}, name, name)
            for name in (" a ", "b\\", "c\t", "%n %%", "$HOME", "-d", "~", '"e"', "'", "[f]*?", "g\\*")
        ),
        *drawn(BATCHES),
    ]
    unlike = {case.folder: case for case in chosen}  # one worker in a folder
    return {
        f"q{number}": case for number, case in enumerate([chosen[0], chosen[1], chosen[2], *unlike.values()])
    }


def literal(text: str) -> str:
    """Write a text so that nothing of it is a setting."""
    return text.replace("{", "{{").replace("}", "}}")


def plan(name: str, case: Case) -> WorkerPlan:
    """Return the worker of a case."""
    return WorkerPlan(
        name,
        name,
        tuple(literal(word) for word in ("sh", "-c", COPY, *case.words)),
        directory=case.directory if case.folder != "plain" else f"{AT}/cases/{name}",
        environment={name: literal(value) for name, value in case.variables.items()},
        environment_file=f"{AT}/environment/{case.file}",
    )


def run_all(machine: Machine, plans: Mapping[str, WorkerPlan], files: Mapping[str, str]) -> dict[str, bytes]:
    """Start all workers once, to their end; return what is then in the files of their directories."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, one in plans.items():
            assert one.directory is not None
            made = tarfile.TarInfo(one.directory.lstrip("/"))
            made.type, made.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(made)
            unit = worker_unit(one, {}, UnitPlaces(environment_dir=f"{AT}/units"))
            add(tar, f"run/systemd/system/{unit_name(name)}", unit.text)
        for path, text in files.items():
            add(tar, path.lstrip("/"), text)
    machine.ok(["tar", "-C", "/", "-xf", "-"], stdin=packed.getvalue())
    try:
        machine.ok("systemctl daemon-reload")
        machine.run(["systemctl", "start", *(unit_name(name) for name in plans)], timeout_s=300)
        states = ("active", "activating", "deactivating")
        machine.until(
            f"! systemctl list-units --state={','.join(states)} --no-legend 'gpu-worker-q*' | grep .",
            "all ended",
        )
        packed = io.BytesIO(machine.run(["tar", "-C", AT, "-cf", "-", "cases"]).out_bytes)
    finally:
        machine.ok(
            f"rm -rf /run/systemd/system/gpu-worker-q* {AT}; systemctl daemon-reload; systemctl reset-failed"
        )
    with tarfile.open(fileobj=packed) as tar:
        return {f"{AT}/{one.name}": read(tar, one) for one in tar if one.isfile()}


def add(tar: tarfile.TarFile, path: str, text: str) -> None:
    content = text.encode()
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(content), 0o644
    tar.addfile(info, io.BytesIO(content))


def read(tar: tarfile.TarFile, one: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(one)
    assert file is not None
    return file.read()


def variables(environ: bytes) -> dict[str, str]:
    """Return the variables in a copy of /proc/PID/environ."""
    pairs = (entry.decode().partition("=") for entry in environ.split(b"\0") if entry)
    return {name: value for name, _, value in pairs}


@pytest.mark.timeout(900)
def test_every_word_variable_and_path_comes_out_as_it_went_in(machine: Machine) -> None:
    told = cases()
    plans = {name: plan(name, case) for name, case in told.items()}
    files = {one.environment_file or "": f"FROM_FILE={name}\n" for name, one in plans.items()}
    files |= {f"{AT}/units/{name}.env": f"OF_LIFE={name}\n" for name in plans}
    found = run_all(machine, plans, files)
    wrong: list[str] = []
    for name, case in told.items():
        at = plans[name].directory
        words = found.get(f"{at}/cmdline", b"did not run\0").decode().split("\0")[:-1]
        wrong += differing(f"{name} words", ["sh", "-c", COPY, *case.words], words)
        got = variables(found.get(f"{at}/environ", b""))
        expected = {**case.variables, "OF_LIFE": name, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "HOME": "/root"}
        wrong += differing(
            f"{name} variables", [*expected.items()], [(key, got.get(key)) for key in expected]
        )
        wrong += [f"{name}: {case.file!r} was not read"] if "FROM_FILE" not in got else []
        directory = found.get(f"{at}/directory", b"").decode().removesuffix("\n")
        wrong += differing(f"{name} directory", [at], [directory])
    assert wrong == []
    assert sum(len(case.words) + len(case.variables) for case in told.values()) > 500


def differing(what: str, expected: Sequence[object], got: Sequence[object]) -> list[str]:
    """Say where two sequences differ first."""
    if [*expected] == [*got]:
        return []
    pairs = [(one, other) for one, other in zip(expected, got, strict=False) if one != other]
    one, other = pairs[0] if pairs else (len(expected), len(got))
    return [f"{what}: {str(one)[:200]!a} came as {str(other)[:200]!a}"]


PROGRAMS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    # command -> argv[0] that the program sees
    "qa": ("./own sh", {}),
    "qb": ("bin/../own sh", {}),
    "qc": ("./-own%n$sh;", {}),
    "qd": ("@own", {"PATH": f"{AT}/cases/qd/bin:relative:/usr/bin:/bin"}),
    "qe": (":own", {"PATH": f"{AT}/cases/qe/bin:/usr/bin:/bin"}),
    "qf": (f"{AT}/cases/qf/own sh", {}),
    "qg": ("日本 %%", {"PATH": f"{AT}/cases/qg/bin:/usr/bin:/bin"}),
    "qh": ("sh", {"PATH": f"{AT}/cases/none:/usr/bin:/bin"}),
}


def test_a_program_is_found_as_execve_would_find_it(machine: Machine) -> None:
    plans = {
        name: WorkerPlan(
            name, name, (program, "-c", COPY, "x"), directory=f"{AT}/cases/{name}", environment=environment
        )
        for name, (program, environment) in PROGRAMS.items()
    }
    machine.ok(
        f"mkdir -p {AT}/cases/qb/bin"
        + "".join(
            f" && mkdir -p {AT}/cases/{name}/bin && cp /bin/sh '{AT}/cases/{name}/{path}'"
            for name, path in (
                *(
                    ("qa", "own sh"),
                    ("qb", "own sh"),
                    ("qc", "-own%n$sh;"),
                    ("qd", "bin/@own"),
                    ("qe", "bin/:own"),
                ),
                *(("qf", "own sh"), ("qg", "bin/日本 %%")),
            )
        )
    )
    found = run_all(machine, plans, {})
    seen = {
        name: found.get(f"{AT}/cases/{name}/cmdline", b"did not run\0").split(b"\0")[0].decode()
        for name in plans
    }
    assert seen == {name: program for name, (program, _) in PROGRAMS.items()}
    got = variables(found[f"{AT}/cases/qd/environ"])
    assert got["PATH"] == f"{AT}/cases/qd/bin:relative:/usr/bin:/bin"
