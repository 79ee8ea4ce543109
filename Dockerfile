# The image of every process: web, worker, beat, flower, migrate. It holds the installed package and no source tree.
FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/unwind
WORKDIR /build
COPY requirements.lock ./
RUN /opt/unwind/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY tasks tasks
COPY worker worker
COPY app app
RUN /opt/unwind/bin/pip install --no-deps .

FROM python:3.13-slim
RUN groupadd --gid 10001 unwind && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent unwind
COPY --from=build /opt/unwind /opt/unwind
ENV PATH=/opt/unwind/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOST=0.0.0.0 PORT=8000
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000
ENTRYPOINT []
CMD ["unwind", "--help"]
