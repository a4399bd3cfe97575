"""Settings of the registry, the same in every service that uses it, and the function that opens what they name."""

from __future__ import annotations

from pydantic import Field

from attune.platform.config import ServiceSettings
from attune.platform.registry.registry import Registry
from attune.platform.registry.storage import Storage


class RegistrySettings(ServiceSettings):
    """Base of the settings of every service that uses the registry."""

    registry: str = Field("attune-data/registry", description="Folder of the registry, or s3://BUCKET/PREFIX.")
    registry_endpoint: str = Field(
        "", description="URL of an S3 other than Amazon's; empty: that of AWS_ENDPOINT_URL, if it is set."
    )


def open_registry(settings: RegistrySettings) -> Registry:
    """The registry that the settings name; nothing is asked of it yet. ConfigurationInvalid if nothing here can."""
    return Registry(Storage(settings.registry, settings.registry_endpoint))
