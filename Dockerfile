# The image of every process: `web` (the default), `worker`, `migrate` and the rest of the command line.
# CI builds no image, for there is no engine there.

FROM python:3.11-slim AS build
WORKDIR /build
RUN python -m pip install --no-cache-dir uv==0.13.9 && python -m venv /opt/assessmentstore
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY src src
# What the processes need and nothing for development, in the locked versions; the lock's hashes are checked.
RUN uv pip install --no-cache --compile-bytecode --python /opt/assessmentstore/bin/python \
    --constraint requirements.lock --verify-hashes .

FROM python:3.11-slim
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data assessmentstore \
    && install -d -o assessmentstore -g assessmentstore /data
COPY --from=build /opt/assessmentstore /opt/assessmentstore
ENV PATH=/opt/assessmentstore/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ASSESSMENTSTORE_DATA_DIR=/data \
    ASSESSMENTSTORE_LOG_FORMAT=json
# As a number: Kubernetes cannot tell by a name that it is not root.
USER 10001:10001
WORKDIR /data
VOLUME /data
# The API; a worker's own port is 6066, that of a bridge to an old system 6068.
EXPOSE 3000 6066 6068
# For the API; the others have another port, and say so where they are started.
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3000/health', timeout=2)"]
ENTRYPOINT ["assessmentstore"]
CMD ["web"]
