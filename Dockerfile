# One image for coordinator, pool workers and sites: `docker build -t fedcore .`
# On machines without a GPU: `docker build -t fedcore --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .`
FROM python:3.11-slim

ARG TORCH_INDEX=https://pypi.org/simple
WORKDIR /fedcore

# The heavy part first: it changes with constraints.txt only.
COPY constraints.txt ./
RUN pip install --no-cache-dir torch==2.13.0 --index-url ${TORCH_INDEX}

COPY pyproject.toml README.md LICENSE prefect.yaml ./
COPY fedcore fedcore
COPY data data
COPY tasks tasks
COPY flows flows
RUN pip install --no-cache-dir --editable '.[s3,postgresql]' --constraint constraints.txt \
    && useradd --create-home fedcore \
    && install --directory --owner fedcore /state

USER fedcore
ENV FEDCORE_HOME=/state PREFECT_HOME=/state/prefect PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=true HF_HUB_OFFLINE=1
VOLUME /state
CMD ["fedcore", "--help"]
