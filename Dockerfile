# An image of cotbal from the constraints. What was built of it, and on what, says docs/machines.md.
#
#   docker build --tag cotbal .
#   docker run --gpus all --shm-size 16g --user "$(id -u):$(id -g)" --volume "$PWD/runs:/runs" \
#       cotbal run /runs/recipe.yaml --out /runs/academic
#
# The directory of runs is that of whom `--user` names, or of user 1000 without. Through the shared memory go
# batches between processes, and what the GPUs of one run say to each other.
#
# On x86-64 the torch wheel that pip takes by default brings CUDA, and the image is then some 8 GB. For a small one
# without it, give the address of PyTorch's index of CPU wheels, which its installation page names:
#
#   docker build --build-arg TORCH_INDEX=ADDRESS --tag cotbal:cpu .

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG TORCH_INDEX=
WORKDIR /source
RUN python -m venv /opt/cotbal
ENV PATH=/opt/cotbal/bin:$PATH
COPY constraints.txt ./
# By itself, so that a change of cotbal does not fetch it again.
RUN pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--no-deps -i $TORCH_INDEX} torch
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir -c constraints.txt ".[train,judge,pocket,ray]"

FROM python:${PYTHON}-slim
# The home is the volume, so that converted records, models from a hub and Ray's token outlive the container, and so that
# `--user` may name somebody whom the image does not know.
RUN useradd --no-create-home --home-dir /runs --uid 1000 cotbal \
    && install --directory --owner cotbal --group cotbal /runs
COPY --from=build /opt/cotbal /opt/cotbal
# The variables of NVIDIA are read by its container runtime, which mounts the driver. None of them is a secret.
# hadolint ignore=DL3064
ENV PATH=/opt/cotbal/bin:$PATH \
    HOME=/runs \
    TOKENIZERS_PARALLELISM=false \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# By number, which is what Kubernetes can tell from root.
USER 1000
WORKDIR /runs
VOLUME /runs
ENTRYPOINT ["cotbal"]
CMD ["--help"]
