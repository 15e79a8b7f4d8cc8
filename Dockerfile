# The gateway's image: built in one stage, run from another that has no compiler, no pip and no secret.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/gateway
COPY requirements.lock /src/
RUN /opt/gateway/bin/pip install --require-hashes -r /src/requirements.lock
COPY pyproject.toml README.md LICENSE /src/
COPY service /src/service
# hatchling is pinned by the development lock file, so that the build asks the index for nothing that is not.
COPY requirements-dev.lock /src/
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes -r /src/requirements-dev.lock \
    && /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist /src \
    && /opt/gateway/bin/pip install --no-deps /dist/*.whl \
    && /opt/gateway/bin/python -m compileall -q /opt/gateway/lib \
    && /opt/gateway/bin/pip uninstall -qy pip

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="campaign-gateway" \
      org.opencontainers.image.description="A caching gateway for the Kore.ai Campaign Management API" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    GATEWAY__LISTEN=0.0.0.0:8080 GATEWAY__ADMIN_LISTEN=0.0.0.0:9090 GATEWAY_CONFIG=/etc/campaign-gateway/gateway.yaml
USER 10001:10001
EXPOSE 8080 9090
# The standard library only: importing the gateway for a probe would cost more than many of its answers.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-S", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9090/livez', timeout=2)"]
ENTRYPOINT ["campaign-gateway"]
CMD ["serve"]
