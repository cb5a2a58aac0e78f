"""Takes secrets out of what is shown to others: those that are known, and what looks like one."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final, cast
from urllib.parse import quote

REMOVED: Final = "[removed]"
SHORTEST: Final = 6  # a shorter value is found in too much that is none
NAME: Final = re.compile(
    r"(?:^|[_.-])(?:token|secret|password|passwd|passphrase|pwd|credentials?|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|auth(?:orization)?|cookie|dsn)(?:$|[_.-])(?!(?:file|path|dir)$)",
    re.IGNORECASE,
)
_NAMED: Final = (
    r"(?:token|secret|password|passwd|passphrase|credentials?|api[_-]?key|access[_-]?key|private[_-]?key)"
    r"(?![a-z])(?:_(?!file|path|dir)[\w-]{0,40})?"
)
# What the lint says of a secret is none.
_VALUE: Final = r"(?!\[removed\]|looks like a secret[;,])(?:\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s,;&}\])\"']+)"
# The group stays. No pattern may go over one stretch of text again and again: workers write what they like.
_PATTERNS: Final = (
    re.compile(
        r"()-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
    ),
    re.compile(r"(\bAuthorization[\"']?\s*[=:]\s*[\"']?(?:\w+[ \t]+)?)(?!\[)[^\s\"',]{4,}", re.IGNORECASE),
    re.compile(r"(\bBearer\s+)[A-Za-z0-9._~+/=:-]{6,}", re.IGNORECASE),
    re.compile(r"(\bBasic\s+)(?=[A-Za-z0-9+/]*[A-Z0-9+/=])[A-Za-z0-9+/]{8,}={0,2}"),
    re.compile(r"((?:^|[^\w-])(?:Set-)?Cookie[\"']?\s*:\s*)[^\r\n]+", re.IGNORECASE),
    re.compile(r"(://)[^\s/?#\"']*(?=@)"),
    re.compile(rf"(--[\w-]{{0,40}}{_NAMED}(?:=|[\"']?,?\s+))(?!-){_VALUE}", re.IGNORECASE),
    re.compile(rf"({_NAMED}[\"']?\s*[=:]\s*){_VALUE}", re.IGNORECASE),
    re.compile(r"([?&](?:sig|signature|auth|code|key|pwd)=)[^&\s\"']+", re.IGNORECASE),
    re.compile(
        r"()\b(?:hf_|sk-|ghp_|gho_|ghs_|github_pat_|glpat-|xox[abprs]-|AKIA|ASIA|AIza)[A-Za-z0-9_-]{8,}"
    ),
    re.compile(
        r"()(?<![\w-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"
    ),  # a JSON web token
)
# No word is so long and has digits; the name of a model has hyphens and dots.
_RANDOM: Final = re.compile(
    r"[\w+=-]*(?<![A-Za-z0-9])(?=[a-z]*[0-9])(?=[0-9]*[a-z])[a-z0-9]{16,}[\w+=-]*", re.IGNORECASE
)
_USERINFO: Final = re.compile(r"://([^\s/?#]*)@")


class Scrubber:
    """Takes known secrets, and what looks like one, out of any text or document."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """Know these, as they are and as JSON and URLs write them; the longest is taken out first."""
        written = {
            form
            for secret in known
            if len(secret) >= SHORTEST
            for form in (
                secret,
                json.dumps(secret)[1:-1],
                json.dumps(secret, ensure_ascii=False)[1:-1],
                quote(secret, safe=""),
            )
        }
        ordered = sorted(written, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        """Return `text` without secrets."""
        if self._known is not None:
            text = self._known.sub(REMOVED, text)
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\1{REMOVED}", text)
        return text

    def lines(self, lines: Iterable[str]) -> tuple[str, ...]:
        """Return lines without secrets, also one that goes over several."""
        joined = "\n".join(lines)
        return tuple(self.text(joined).split("\n")) if joined else ()

    def document(self, value: object, name: str = "") -> object:
        """Return a JSON value without secrets: nothing that is named as one stays."""
        if isinstance(value, str):
            return REMOVED if value and NAME.search(name) else self.text(value)
        if isinstance(value, Mapping):
            entries = cast("Mapping[object, object]", value)
            return {self.text(str(key)): self.document(each, str(key)) for key, each in entries.items()}
        if isinstance(value, list | tuple):
            items = cast("Iterable[object]", value)
            return [self.document(each, name) for each in items]
        return (
            REMOVED if isinstance(value, int) and not isinstance(value, bool) and NAME.search(name) else value
        )


def is_secret(name: str, value: str) -> bool:
    """Tell whether a variable most likely holds a secret."""
    return bool(value) and bool(
        NAME.search(name) or _RANDOM.fullmatch(value) or any(pattern.search(value) for pattern in _PATTERNS)
    )


def parts_of(value: str) -> tuple[str, ...]:
    """Return what may not be shown of a secret value: the whole, the userinfo of a URL, and its password."""
    found = [value]
    for userinfo in _USERINFO.findall(value):
        found += [userinfo, userinfo.partition(":")[2]]
    return tuple(part for part in found if part)
