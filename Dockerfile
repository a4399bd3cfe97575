# Two images of one tree. `slim` runs ingest and join and holds no torch; `full` runs every service.
# deploy/images.md tells how they are built, for CPU or CUDA, and what a container needs.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS python
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log /var/cache/ldconfig/aux-cache

FROM python AS builder
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip
# Byte code that names no time: the same sources give the same files.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore SOURCE_DATE_EPOCH=315532800
RUN python3 -m venv --without-pip /opt/attune
WORKDIR /src
# What it depends on comes first, so that a change of the code does not fetch it again.
COPY pyproject.toml README.md LICENSE ./
RUN mkdir -p services/attune && touch services/attune/__init__.py

FROM builder AS slim-builder
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip --python /opt/attune/bin/python install '.[server,postgres,s3,tracing]'
COPY services services
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip --python /opt/attune/bin/python install --no-deps --force-reinstall .

FROM builder AS full-builder
# Empty: the torch of the usual index, which brings CUDA. An index of torch built for CPUs makes a much smaller image.
ARG TORCH_INDEX=
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip --python /opt/attune/bin/python install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} '.[models,kubernetes,postgres,s3,tracing,triton]'
COPY services services
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip --python /opt/attune/bin/python install --no-deps --force-reinstall .

FROM python AS runtime
RUN useradd --uid 10001 --user-group --home-dir /var/lib/attune --create-home --skel /nonexistent attune \
 && rm -f /var/log/faillog /var/log/lastlog /etc/*-
# Writable are a volume here, for what the settings name attune-data/…, and /tmp; nothing else need be.
WORKDIR /var/lib/attune
ENV PATH=/opt/attune/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OMP_WAIT_POLICY=PASSIVE \
    GOMP_SPINCOUNT=0 \
    TOKENIZERS_PARALLELISM=false
USER 10001:10001
ENTRYPOINT ["attune"]
ARG VERSION=
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.description="Online reinforcement learning from human feedback, as services" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

FROM runtime AS slim
LABEL org.opencontainers.image.title="attune-slim"
COPY --from=slim-builder /opt/attune /opt/attune

FROM runtime AS full
LABEL org.opencontainers.image.title="attune"
COPY --from=full-builder /opt/attune /opt/attune
