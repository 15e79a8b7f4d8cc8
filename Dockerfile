# The gateway's image: two stages with build tools, and a final stage without them.
#
# To use your own package index, pass it as a secret; no layer keeps it:
#   docker build --secret id=pip.conf,src=/etc/pip.conf --tag campaign-gateway:local .
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-bookworm

# A layer of its own: it is slow, and changes only with the lock file.
FROM ${PYTHON_IMAGE} AS tools
COPY requirements-build.lock /src/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python -m venv /opt/tools \
    && /opt/tools/bin/pip install --no-cache-dir --require-hashes -r /src/requirements-build.lock

FROM tools AS build
# The time of all files, so that equal sources make equal images.
ARG SOURCE_DATE_EPOCH=0
COPY requirements-image.lock /src/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python -m venv --without-pip /opt/gateway \
    && /opt/tools/bin/pip --python /opt/gateway/bin/python install \
        --no-cache-dir --no-compile --require-hashes -r /src/requirements-image.lock
COPY pyproject.toml README.md LICENSE /src/
COPY service /src/service
COPY --chmod=0644 deploy/healthcheck.py /opt/gateway/
WORKDIR /src
# Bytecode that is never compared with its source, so it does not depend on file times.
RUN SOURCE_DATE_EPOCH=$(( SOURCE_DATE_EPOCH > 315532800 ? SOURCE_DATE_EPOCH : 315532800 )) \
        /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/tools/bin/pip --python /opt/gateway/bin/python install --no-deps --no-index --no-compile /dist/*.whl \
    && /opt/gateway/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/gateway/lib \
    && /opt/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
        --output-file /opt/gateway/sbom.cdx.json /opt/gateway/bin/python \
    && rm -f /opt/gateway/bin/[Aa]ctivate* \
    && find /opt/gateway -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/gateway /opt/gateway
# Remove the base image's installers, and compile the imported parts of the standard library, because official Python
# images have no bytecode.
RUN if python -c 'import pip' 2>/dev/null; then python -m pip uninstall --quiet --yes --root-user-action ignore pip; fi \
    && rm -rf "$(python -c 'import ensurepip; print(ensurepip.__path__[0])')" /usr/share/python-wheels \
    && /opt/gateway/bin/python -c 'import campaign_gateway.cli, campaign_gateway.demo, campaign_gateway.store.open, campaign_gateway.telemetry.traces, uvloop' \
    # The state of a gateway without Redis. Mount a volume here to keep it.
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/campaign-gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 XDG_STATE_HOME=/var/lib \
    GATEWAY__LISTEN=0.0.0.0:8080 GATEWAY__ADMIN_LISTEN=0.0.0.0:9090 GATEWAY_CONFIG=/etc/campaign-gateway/gateway.yaml \
    GATEWAY_DEMO_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8080 9090
# Not `campaign-gateway`: its import would cost more than many answers.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["/opt/gateway/bin/python", "-I", "-S", "/opt/gateway/healthcheck.py"]
ENTRYPOINT ["campaign-gateway"]
CMD ["serve"]
# Last, so that a new time or commit keeps the cached layers.
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="campaign-gateway" \
      org.opencontainers.image.description="A caching gateway for the Kore.ai Campaign Management API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      campaign-gateway.sbom="/opt/gateway/sbom.cdx.json"
