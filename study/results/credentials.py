"""Credentials have no place in a URI: a URI is written to study files, rows, messages and logs."""

from __future__ import annotations

import re

REFUSED = (
    "credentials in a URI would be written to the study folder; allowed: a URI without them, and "
    "credentials in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, …)"
)
"""Why a URI with credentials is refused, and what is allowed."""

# `user:password@` before the host; the password may contain slashes, the port is a number.
_USER_INFO = re.compile(r"(?<=://)(?:[^\s/?'\"]*@|[^\s/?'\"]*:(?!\d+/)[^\s?'\"]*@)")
_QUERY = re.compile(
    r"([?&][^=&\s]*(?:secret|password|token|access_key|credential)[^=&\s]*=)[^&\s'\"]*",
    re.IGNORECASE,
)


def without_credentials(text: str) -> str:
    """A text in which every URI has lost what may be a credential.

    Args:
        text: a URI, or a message that contains URIs.

    Example:
        >>> without_credentials("s3://KEY:SECRET@bucket/studies?scheme=http")
        's3://***@bucket/studies?scheme=http'
    """
    return _QUERY.sub(r"\1***", _USER_INFO.sub("***@", text))


def has_credentials(uri: str) -> bool:
    """Whether a URI contains a password or a key; a path never does.

    Args:
        uri: a path or URI.

    Example:
        >>> [has_credentials(u) for u in ("hdfs://me@host/x", "s3://bucket/a@b", "s3://K:S@b/x")]
        [False, False, True]
    """
    if "://" not in uri:
        return False
    found = _USER_INFO.search(uri)
    is_secret = found is not None and (":" in found[0] or uri.startswith("s3://"))
    return is_secret or _QUERY.search(uri) is not None
