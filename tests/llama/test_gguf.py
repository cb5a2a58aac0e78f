"""What a model's headers say is read; a file that is hostile, cut or strange is one clear error."""

import os
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from supervisor.llama.gguf import GgufError, Tensor, read_gguf
from supervisor.llama.gguf_header import Skipped
from support.llama.gguf_files import (
    ARRAY,
    BOOL,
    F32,
    F64,
    I8,
    I64,
    LLAMA,
    TENSORS,
    U8,
    U16,
    U32,
    U64,
    Given,
    encoded,
    header,
    number,
    numbers,
    text,
    texts,
    words,
    written,
)

HEAD = b"GGUF" + struct.pack("<I", 3)


def refusal(path: Path) -> str:
    """Return what is said of a file, without the words that name it."""
    with pytest.raises(GgufError) as caught:
        read_gguf(path)
    return str(caught.value).removeprefix(f"cannot read {path}: ")


@pytest.mark.parametrize("version", [2, 3])
def test_metadata_and_tensors_are_read(tmp_path: Path, version: int) -> None:
    model = read_gguf(written(tmp_path / "m.gguf", LLAMA, TENSORS[:3], version))
    assert model.version == version
    assert model.metadata["general.architecture"] == "llama"
    assert model.metadata["llama.context_length"] == 4096
    assert model.metadata["tokenizer.ggml.tokens"] == Skipped(3)
    assert model.tensors == (
        Tensor("token_embd.weight", 1, (64, 3), 384),
        Tensor("blk.0.attn_norm.weight", 0, (64,), 256),
        Tensor("blk.0.attn_q.weight", 8, (64, 64), 4352),
    )
    assert model.file_bytes == (tmp_path / "m.gguf").stat().st_size


def test_every_kind_of_value_is_read(tmp_path: Path) -> None:
    keys = [
        number("u8", 255, U8),
        number("i8", -1, I8),
        number("u16", 65535, U16),
        number("u64", 1 << 63, U64),
        number("i64", -5, I64),
        number("f64", 0.1, F64),
        number("yes", 1, BOOL),
        words("word", "\u00e9"),
        numbers("few", [True, False], BOOL),
        numbers("many", [0] * 1025, U8),
        words("long", "x" * 257),
        words("last", "is reached"),
    ]
    assert read_gguf(written(tmp_path / "m.gguf", keys)).metadata == {
        "u8": 255,
        "i8": -1,
        "u16": 65535,
        "u64": 9223372036854775808,
        "i64": -5,
        "f64": 0.1,
        "yes": True,
        "word": "\u00e9",
        "few": (True, False),
        "many": Skipped(1025),
        "last": "is reached",
    }


def test_a_vocabulary_larger_than_the_window_is_passed_over(tmp_path: Path) -> None:
    words_of_it = [f"token{'x' * (i % 97)}" for i in range(30_000)]
    keys = [texts("tokenizer.ggml.tokens", words_of_it), words("big", "y" * 300_000), number("after", 7)]
    model = read_gguf(written(tmp_path / "m.gguf", keys))
    assert model.metadata == {"tokenizer.ggml.tokens": Skipped(30_000), "after": 7}


def test_another_alignment_is_followed(tmp_path: Path) -> None:
    keys = [number("general.alignment", 64)]
    raw = header(keys, [Given("a", 0, (16,), 64), Given("b", 0, (16,), 64)])
    path = tmp_path / "m.gguf"
    path.write_bytes(raw + bytes(-len(raw) % 64) + bytes(128))
    assert [tensor.size_bytes for tensor in read_gguf(path).tensors] == [64, 64]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "it is empty (at byte 0)"),
        (b"GG", "cut: 4 bytes are to follow and 2 do (at byte 0)"),
        (b"GGML" + bytes(20), "it starts with b'GGML', not with b'GGUF' (at byte 0)"),
        (b"GGUF" + struct.pack("<I", 1), "it is GGUF version 1, and 2 and 3 are known (at byte 4)"),
        (b"GGUF" + struct.pack(">I", 3), "it was made for a big-endian machine (at byte 4)"),
        (HEAD + struct.pack("<Q", 32769), "it claims more than 32768 tensors (at byte 8)"),
        (
            HEAD + struct.pack("<QQ", 0, 1 << 63),
            "it claims more than 8192 keys (at byte 16)",
        ),
        (
            HEAD + struct.pack("<QQQ", 0, 1, 65536),
            "a key is 65536 bytes long, and 65535 are allowed (at byte 24)",
        ),
        (
            header([text("k") + struct.pack("<I", 13)]),
            'the value of "k" is of type 13, which GGUF does not have (at byte 33)',
        ),
        (
            header([text("k") + struct.pack("<IIQ", ARRAY, ARRAY, 1)]),
            'the value of "k" is an array of arrays, which llama.cpp does not read (at byte 37)',
        ),
        (
            header([text("k") + struct.pack("<IIQ", ARRAY, 77, 1)]),
            'the items of "k" are of type 77, which GGUF does not have (at byte 37)',
        ),
        (
            header([text("k") + struct.pack("<IIQ", ARRAY, U32, (1 << 64) - 1)]),
            "cut: 73786976294838206460 bytes are to follow and 0 do (at byte 49)",
        ),
        (
            header([text("k") + struct.pack("<IIQ", ARRAY, 8, 4194305)]),
            "it holds more than 4194304 strings (at byte 49)",
        ),
        (
            header([text("k") + struct.pack("<IIQQ", ARRAY, 8, 1, 1 << 62)]),
            "cut: 4611686018427387912 bytes are to follow and 8 do (at byte 49)",
        ),
        (header([number("k", 1), number("k", 2)]), 'it has the key "k" twice (at byte 41)'),
        (header([number("general.alignment", 24)]), "its general.alignment is no power of two"),
        (header([number("general.alignment", 0)]), "its general.alignment is no power of two"),
        (header([number("general.alignment", 32.0, F32)]), "its general.alignment is no power of two"),
        (
            header([], [Given("n" * 64, 0, (1,), 4)]),
            "a tensor's name is 64 bytes long, and 63 are allowed (at byte 24)",
        ),
        (
            header([], [Given("t", 0, (1, 1, 1, 1, 1), 4)]),
            'tensor "t" has 5 dimensions, and 4 are allowed (at byte 24)',
        ),
        (
            header([], [Given("t", 4, (32,), 18)]),
            'tensor "t" is of type 4, which ggml does not have (at byte 24)',
        ),
        (
            header([], [Given("t", 12, (128,), 72)]),
            'the rows of tensor "t" have 128 numbers, no whole blocks of q4_K (at byte 24)',
        ),
        (
            encoded([], [Given("t", 0, (1,), 4), Given("t", 0, (1,), 4)]),
            'it has the tensor "t" twice (at byte 57)',
        ),
        (
            encoded([], [Given("t", 0, (1,), 64), Given("u", 0, (1,), 4)]),
            'tensor "u" lies at 64 of the data, and 32 is expected (at byte 57)',
        ),
        (
            header([], [Given("t", 0, ((1 << 64) - 1,) * 4, 0)])[:-8] + bytes(8),
            'cut: tensor "t" is larger than the file (at byte 24)',
        ),
        (
            encoded(LLAMA, TENSORS)[:-1],
            'cut: tensor "rope_freqs.weight" ends at byte 7424, the file before it (at byte 7423)',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_file_is_said_with_the_place(tmp_path: Path, raw: bytes, why: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(raw)
    assert refusal(path) == why


def test_a_header_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(encoded(LLAMA, TENSORS))
    for count in reversed(range(len(header(LLAMA, TENSORS)))):
        os.truncate(path, count)
        assert "(at byte " in refusal(path)


def test_what_is_no_file_to_be_read_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert refusal(tmp_path / "none.gguf") == "No such file or directory"
    assert refusal(tmp_path) == "it is no regular file"
    assert refusal(tmp_path / "fifo") == "it is no regular file"
    assert refusal(Path("/dev/zero")) == "it is no regular file"
    assert refusal(Path("a\0b")) == "embedded null byte"


def parts(count: int = 2, total: int = 8) -> list[list[bytes]]:
    """Return the keys of each file of a split model."""
    own = [[number("split.no", i, U16), number("split.count", count, U16)] for i in range(count)]
    return [[*LLAMA, *own[0], number("split.tensors.count", total)], *own[1:]]


def split(folder: Path, keys: Sequence[Sequence[bytes]], tensors: Sequence[Sequence[Given]]) -> Path:
    for number_of, (some, those) in enumerate(zip(keys, tensors, strict=True), 1):
        written(folder / f"big-{number_of:05}-of-{len(keys):05}.gguf", some, those)
    return folder / f"big-00001-of-{len(keys):05}.gguf"


def test_a_split_model_is_read_by_its_first_file(tmp_path: Path) -> None:
    model = read_gguf(split(tmp_path, parts(), [TENSORS[:3], TENSORS[3:]]))
    assert [path.name for path in model.paths] == ["big-00001-of-00002.gguf", "big-00002-of-00002.gguf"]
    assert [tensor.name for tensor in model.tensors] == [tensor.name for tensor in TENSORS]
    assert model.metadata["llama.block_count"] == 2
    assert model.file_bytes == sum(path.stat().st_size for path in model.paths)


def test_a_split_model_that_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    first = split(tmp_path, parts(), [TENSORS[:3], TENSORS[3:]])
    second = tmp_path / "big-00002-of-00002.gguf"
    assert refusal(second) == "it is file 2 of 2: a model is named by its first"

    (tmp_path / "other.gguf").write_bytes(first.read_bytes())
    why = "it is one of 2 files, and its name does not end in -NNNNN-of-00002.gguf"
    assert refusal(tmp_path / "other.gguf") == why

    written(second, parts()[1], TENSORS[2:])
    assert refusal(first) == 'two of its files have the tensor "blk.0.attn_q.weight"'

    written(second, parts()[1], TENSORS[4:])
    assert refusal(first) == "its files have 7 tensors, and its split.tensors.count is 8"

    written(second, [number("split.no", 5), number("split.count", 2)], TENSORS[3:])
    with pytest.raises(GgufError, match=r"00002-of-00002.gguf: its split.no is not 1: it is another part"):
        read_gguf(first)

    second.unlink()
    with pytest.raises(GgufError, match=r"00002-of-00002.gguf: No such file or directory"):
        read_gguf(first)


def test_a_split_count_is_bounded(tmp_path: Path) -> None:
    path = written(tmp_path / "m-00001-of-65535.gguf", [number("split.count", 65535, U16)])
    assert refusal(path) == "it is split into 65535 files, and 1000 are allowed"


def worst_tensors() -> bytes:
    """Return a header as full of tensors and of keys with wide characters as it may be."""
    keys = [words(f"{i:04}\U0001f600{'k' * 248}", "\U0001f600" + "v" * 252) for i in range(8192)]
    return header(
        keys,
        [Given(f"{i:05}\U0001f600{'n' * 54}", 0, (0, 1 << 62, 1 << 62, 1 << 62), 0) for i in range(32768)],
    )


def worst_arrays() -> bytes:
    return header([numbers(f"{i}", [float(j) for j in range(1024)], F64) for i in range(64)])


@pytest.mark.parametrize("raw", [worst_tensors, worst_arrays])
def test_the_most_that_a_header_may_hold_takes_less_than_64_mib(
    tmp_path: Path, raw: Callable[[], bytes]
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(raw() + bytes(32))
    tracemalloc.start()
    try:
        model = read_gguf(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert model.version == 3
    assert peak < 64 << 20


def test_a_sparse_file_of_empty_strings_ends_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(header([text("k") + struct.pack("<IIQ", ARRAY, 8, 4194304)]))
    os.truncate(path, 1 << 40)
    assert read_gguf(path).metadata == {"k": Skipped(4194304)}


def test_a_header_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(header([text("k") + struct.pack("<IIQ", ARRAY, U8, 1 << 30)]))
    os.truncate(path, 1 << 40)
    assert refusal(path) == "its header is larger than 268435456 bytes (at byte 49)"


def test_the_files_of_a_split_model_have_one_budget_together(tmp_path: Path) -> None:
    some = [number(f"k{i}", i) for i in range(4090)]
    keys = [[*own, *some] for own in parts(3)]
    first = split(tmp_path, keys, [TENSORS[:3], TENSORS[3:], []])
    with pytest.raises(GgufError, match=r"00002-of-00003.gguf: it claims more than 8192 keys \(at byte 16\)"):
        read_gguf(first)
