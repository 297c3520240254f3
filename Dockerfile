# The server for production: GraphiQL from Node, a virtual environment from the lock file, and nothing else in the last stage.
#
#   docker build -t taskgraph .
#   docker run --rm --env-file taskgraph.env taskgraph taskgraph migrate
#   docker run -p 8000:8000 --env-file taskgraph.env taskgraph

FROM node:20-slim AS page
WORKDIR /build/web
COPY web/package.json web/package-lock.json ./
RUN npm ci --no-audit --no-fund --loglevel=error
COPY web/ ./
RUN npm run --silent build

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements.lock ./
# Before the sources: a change of code alone reuses this layer.
RUN python -m venv /venv && /venv/bin/pip install --quiet --require-hashes --only-binary :all: -r requirements.lock
COPY requirements-dev.lock ./
# The tool that builds the package is locked among the development tools; only it and what it needs are taken from there.
RUN python -m venv /tools \
    && awk '/^[a-z]/ { keep = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } keep' requirements-dev.lock > tools.lock \
    && /tools/bin/pip install --quiet --require-hashes -r tools.lock
COPY pyproject.toml README.md LICENSE* ./
COPY migrations/ migrations/
COPY src/ src/
COPY --from=page /build/src/taskgraph/server/graphiql/ src/taskgraph/server/graphiql/
RUN /tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
    && /venv/bin/pip install --quiet --no-deps dist/*.whl \
    && /venv/bin/pip uninstall --quiet --yes setuptools pip

FROM python:3.11-slim
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TASKGRAPH_ENVIRONMENT=production
# A number, so that Kubernetes can see that it is not root; it owns nothing here.
USER 10001:10001
WORKDIR /
EXPOSE 8000
STOPSIGNAL SIGTERM
# /livez, not /readyz: whoever restarts unhealthy containers should not do so because MongoDB is away.
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s --retries=3 CMD ["python", "-c", \
    "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8000, timeout=3); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["taskgraph", "serve", "--host", "0.0.0.0", "--port", "8000"]
