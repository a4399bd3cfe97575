"""What a server says of itself by reflection."""

from __future__ import annotations

import grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc


async def listed_services(address: str) -> set[str]:
    """The full names of its services, each of which it can describe too."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        (listing,) = [response async for response in stub.ServerReflectionInfo(iter(asked))]
        names = [service.name for service in listing.list_services_response.service]
        asked = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names]
        described = [response async for response in stub.ServerReflectionInfo(iter(asked))]
    assert all(response.HasField("file_descriptor_response") for response in described)
    return set(names)
