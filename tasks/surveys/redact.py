"""Text without secrets: what error messages of libraries and links may hold is taken out before it is kept."""

import re
from collections.abc import Iterable

_HIDDEN = "***"

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # https://user:password@host
    (re.compile(r"(?<=://)[^/\s@]+@"), ""),
    # The query of an address: signatures of presigned links, tokens.
    (re.compile(r"((?:https?|s3|/vsi\w+)[:/][^\s\"'<>?]+)\?[^\s\"'<>)\]]*"), r"\1"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {_HIDDEN}"),
    (
        re.compile(
            r"(?i)([\w-]*(?:access_?key(?:_?id)?|secret|session_?token|security-?token|signature|password|token|api_?key)"
            r"[\w-]*[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]{4,}"
        ),
        rf"\1{_HIDDEN}",
    ),
    # Keys of AWS and web tokens, wherever they stand.
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), _HIDDEN),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), _HIDDEN),
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` without these secrets, without queries and logins in addresses, and without what looks like a key."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, _HIDDEN)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
