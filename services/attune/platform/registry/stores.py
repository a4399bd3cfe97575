"""Opening the store that a registry's URL names, by fsspec: a folder of this machine, or an object store on S3.

Credentials come from where every S3 client looks for them (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, the
identity of the pod), never from settings.
"""

from __future__ import annotations

from typing import Any

import fsspec.core
from fsspec import AbstractFileSystem

from attune.domain.errors import ConfigurationInvalid

CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ATTEMPTS = 5, 30, 3
_S3 = ("s3://", "s3a://")


def open_filesystem(url: str, endpoint: str = "") -> tuple[AbstractFileSystem, str]:
    """The store and the path in it. Listings are not cached, and nothing is asked of the store yet.

    `endpoint` is the URL of an S3 other than Amazon's; empty: AWS_ENDPOINT_URL, if that is set. ConfigurationInvalid if
    nothing here speaks the URL's protocol, or for an endpoint without S3.
    """
    options: dict[str, Any] = {"use_listings_cache": False}
    if url.startswith(_S3):
        retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
        timeouts = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": READ_TIMEOUT_S}
        options |= {"endpoint_url": endpoint or None, "config_kwargs": {"retries": retries, **timeouts}}
    elif endpoint:
        raise ConfigurationInvalid(f"registry_endpoint is for a registry on s3://, not for {url}")
    try:
        return fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        hint = ", which comes with: pip install 'attune[s3]'" if url.startswith(_S3) else ""
        raise ConfigurationInvalid(f"the registry {url} needs a package that is not installed{hint}") from error
    except ValueError as error:
        raise ConfigurationInvalid(f"the registry {url} cannot be opened: {error}") from None


def client_errors(filesystem: AbstractFileSystem) -> tuple[type[Exception], ...]:
    """What says that an S3 did not do what it was asked, whoever of its client raises it; empty for other stores."""
    if "s3" not in filesystem.protocol:
        return ()
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError

    return ClientError, BotoCoreError, OSError
