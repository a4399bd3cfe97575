"""Settings of the registry: the endpoint, and credentials that come from the environment alone."""

from __future__ import annotations

import pytest
from attune.domain.errors import ConfigurationInvalid
from attune.platform.registry.settings import RegistrySettings, open_registry
from support.s3 import S3Server


@pytest.mark.parametrize("named_by", ["setting", "environment"])
def test_an_s3_other_than_amazons_is_named_by_a_setting_or_by_the_environment(
    s3: S3Server, named_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, endpoint = s3.new_bucket(), ""
    if named_by == "setting":
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        endpoint = s3.endpoint
    registry = open_registry(RegistrySettings(registry=f"s3://{bucket}", registry_endpoint=endpoint))
    assert registry.storage.create("a", b"1")
    assert registry.storage.names("") == ["a"]


def test_an_endpoint_without_s3_is_refused() -> None:
    with pytest.raises(ConfigurationInvalid, match="registry_endpoint"):
        open_registry(RegistrySettings(registry="folder", registry_endpoint="http://127.0.0.1:9000"))
