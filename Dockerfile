# An image of cotbal from the constraints. It was written without a container engine at hand: it has not been built yet.
#
#   docker build --tag cotbal .
#   docker run --gpus all --shm-size 16g --volume "$PWD/runs:/runs" cotbal run /runs/recipe.yaml --out /runs/academic
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
RUN useradd --create-home --uid 1000 cotbal && install --directory --owner cotbal /runs
COPY --from=build /opt/cotbal /opt/cotbal
# The variables of NVIDIA are read by its container runtime, which mounts the driver.
ENV PATH=/opt/cotbal/bin:$PATH \
    TOKENIZERS_PARALLELISM=false \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER cotbal
WORKDIR /runs
VOLUME /runs
ENTRYPOINT ["cotbal"]
CMD ["--help"]
