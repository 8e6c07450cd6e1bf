# Serving image: segments pictures and videos with an exported graph on the CPU; no torch inside.
#   docker build -t blda-serve .
#   docker run --rm -v "$PWD:/data" --user "$(id -u)" blda-serve image --help

FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt LICENSE README.md blda.py ./
COPY adapt adapt
COPY export export
COPY serve serve
# The wheel carries all three rooms, a few files each; only what serving needs is installed beside it.
RUN python -m venv /opt/blda \
    && /opt/blda/bin/pip install --no-cache-dir -c constraints.txt '.[serve,cpu]'

FROM python:3.11-slim
COPY --from=build /opt/blda /opt/blda
RUN useradd --create-home --uid 10001 blda
USER blda
WORKDIR /data
ENV PATH=/opt/blda/bin:$PATH
ENTRYPOINT ["serve"]
CMD ["--help"]
