# Serving images: a graph made by `blda export onnx` goes in, labels come out; no torch inside.
#   docker build -t blda-serve .                      CPU
#   docker build -t blda-serve:gpu --target gpu .     CUDA, for docker run --gpus all
#   docker run --rm -v "$PWD:/data" blda-serve info model.onnx
#   docker run --rm -v "$PWD:/data" --user "$(id -u)" blda-serve video model.onnx clip.mp4 -o out.mp4
#   docker run --rm -v "$PWD:/data" -p 127.0.0.1:7860:7860 blda-serve demo --host 0.0.0.0 model.onnx
# and, with torch, for those who export:
#   docker build -t blda-export --target export .
#   docker run --rm -v "$PWD:/data" --user "$(id -u)" blda-export onnx run --with-correction -o model.onnx

FROM python:3.11-slim AS source
WORKDIR /source
COPY pyproject.toml constraints.txt LICENSE README.md blda.py ./
COPY adapt adapt
COPY export export
COPY serve serve
RUN python -m venv /opt/blda

# The wheel carries all three rooms, a few files each; what each image installs beside it is what differs.
FROM source AS build-cpu
RUN /opt/blda/bin/pip install --no-cache-dir -c constraints.txt '.[serve,demo,cpu]'

FROM source AS build-gpu
RUN /opt/blda/bin/pip install --no-cache-dir -c constraints.txt '.[serve,demo,gpu]'

FROM source AS build-export
RUN /opt/blda/bin/pip install --no-cache-dir -c constraints.txt '.[export,cpu]'

FROM python:3.11-slim AS base
RUN useradd --create-home --uid 10001 blda
WORKDIR /data
ENV PATH=/opt/blda/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1
USER blda

FROM base AS export
COPY --from=build-export /opt/blda /opt/blda
ENTRYPOINT ["export"]
CMD ["--help"]

FROM base AS serve
ENTRYPOINT ["serve"]
CMD ["--help"]
EXPOSE 7860
# Healthy: the demo's page answers, whoever started it (a shell, an init); a command that serves no page is
# healthy while it runs.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-m", "serve.cli.health"]

# CUDA and cuDNN come as wheels, which serve/inference/opening.py finds; the driver comes from the host.
FROM serve AS gpu
COPY --from=build-gpu /opt/blda /opt/blda

# Last, so that it is what `docker build .` makes.
FROM serve AS cpu
COPY --from=build-cpu /opt/blda /opt/blda
