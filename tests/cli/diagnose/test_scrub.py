"""What is taken out of texts and documents, and what stays."""

import pytest

from supervisor.cli.diagnose.scrub import Scrubber, is_secret, parts_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer [removed]"),
        ('{"authorization": "bearer abcdef123"}', '{"authorization": "bearer [removed]"}'),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [removed]"),
        ("using hf_abcdefgh12345678 now", "using [removed] now"),
        ("sk-proj-abcdefgh12345678", "[removed]"),
        ("key AKIAIOSFODNN7EXAMPLE.", "key [removed]."),
        ("password=hunter2 user=ann", "password=[removed] user=ann"),
        ("PASSWORD: 'two words' rest", "PASSWORD: [removed] rest"),
        ('{"api_key": "a\\"b", "n": 1}', '{"api_key": [removed], "n": 1}'),
        ("MY_API_TOKEN=x", "MY_API_TOKEN=[removed]"),
        ("--api-key abc --port 1", "--api-key [removed] --port 1"),
        ("['--api-key', 'abc', '--port', '1']", "['--api-key', [removed], '--port', '1']"),
        ("--auth-token=abc", "--auth-token=[removed]"),
        ("postgres://ann:p@ss@db/x", "postgres://[removed]@db/x"),
        ("https://token@host/x", "https://[removed]@host/x"),
        ("GET /x?a=1&sig=abc&b=2", "GET /x?a=1&sig=[removed]&b=2"),
        ("GET /x?access_token=abc&b=2", "GET /x?access_token=[removed]&b=2"),
        ("Set-Cookie: a=b; c=d", "Set-Cookie: [removed]"),
        ("jwt eyJhbGciOiJI.eyJzdWIiOiIx.abc-_ end", "jwt [removed] end"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nrest",
            "[removed]\nrest",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMII", "[removed]"),
    ],
)
def test_what_looks_like_a_secret_is_removed(text: str, shown: str) -> None:
    assert Scrubber().text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "n_tokens: 4096, max_tokens=12",
        "token_file: /etc/gpu-supervisor/token",
        "prompt tokens: 42 tokens per second: 17.1",
        "http://127.0.0.1:8081/health answered 200",
        "GPU-3f8a6c1e-1111-2222-3333-444455556666 answers",
        "basic checks passed",
        "mail ann@example.org of 8.10GiB, cap 8GiB",
        "/models/chat-q4_k_m.gguf",
        "workers.chat.environment.API_TOKEN: looks like a secret; put it into environment_file",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Scrubber().text(text) == text


def test_what_is_known_is_removed_as_json_and_urls_write_it() -> None:
    scrubber = Scrubber(['pass"word/1', "shrt"])
    assert scrubber.text('a pass"word/1 b pass\\"word/1 c pass%22word%2F1 d shrt') == (
        "a [removed] b [removed] c [removed] d shrt"
    )


def test_of_two_secrets_of_which_one_begins_the_other_nothing_is_left() -> None:
    assert Scrubber(["secret", "secret-and-more"]).text("secret-and-more") == "[removed]"


def test_a_document_loses_whatever_is_named_as_a_secret() -> None:
    told = {
        "settings": {"api_key": "a", "port": 8081, "pin_token": 1234},
        "lines": ["Bearer abcdef", {"password": ["x", "y"]}],
        "token": None,
        "last_restart": {"reason": "exited with status 3"},
    }
    assert Scrubber().document(told) == {
        "settings": {"api_key": "[removed]", "port": 8081, "pin_token": "[removed]"},
        "lines": ["Bearer [removed]", {"password": ["[removed]", "[removed]"]}],
        "token": None,
        "last_restart": {"reason": "exited with status 3"},
    }


def test_a_secret_that_goes_over_several_lines_is_removed_whole() -> None:
    lines = ("a", "-----BEGIN PRIVATE KEY-----", "MII", "-----END PRIVATE KEY-----", "b")
    assert Scrubber().lines(lines) == ("a", "[removed]", "b")


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("API_TOKEN", "x", True),
        ("HF_TOKEN", "x", True),
        ("DB_PASSWORD", "x", True),
        ("TOKEN_FILE", "/etc/token", False),
        ("MAX_TOKENS", "4096", False),
        ("X", "hf_abcdefgh12345678", True),
        ("X", "postgres://ann:pw@db/x", True),
        ("X", "Zx81kkQ0p4planted9aYb2vW", True),
        ("X", "Llama-3-8B-Instruct-Q4-K-M", False),
        ("X", "550e8400-e29b-41d4-a716-446655440000", False),
        ("X", "key-0123456789abcdef0123456789abcdef", True),
        ("LLAMA_ARG_THREADS", "6", False),
        ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True", False),
        ("API_TOKEN", "", False),
    ],
)
def test_a_variable_is_a_secret_by_its_name_or_by_its_value(name: str, value: str, *, secret: bool) -> None:
    assert is_secret(name, value) is secret


def test_of_a_url_the_password_alone_is_known_too() -> None:
    assert parts_of("postgres://ann:hunter22@db/x") == (
        "postgres://ann:hunter22@db/x",
        "ann:hunter22",
        "hunter22",
    )


@pytest.mark.parametrize(
    "part",
    [
        "a",
        "a.",
        "token",
        "token-",
        "token=",
        "://",
        "a://",
        "@",
        "eyJ-",
        "--a",
        "-",
        "key=",
        '"',
        "sk-",
        "Basic A ",
    ],
)
def test_text_that_is_made_to_be_slow_is_read_in_one_go(part: str) -> None:
    text = part * (256_000 // len(part))
    assert Scrubber(["no such secret"]).text(f"{text} password=abc").endswith("password=[removed]")
