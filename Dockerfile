# The environment of this repository on a machine with an NVIDIA GPU (with its driver and the NVIDIA
# Container Toolkit on the host):
#   docker build --build-arg COMMIT="$(git rev-parse --short=12 HEAD)" -t boundary-loss .
#   mkdir -p data results
#   docker run --rm --gpus all --ipc=host --user "$(id -u):$(id -g)" \
#       -v "$PWD/data:/app/data" -v "$PWD/results:/app/results" boundary-loss make wmh
# torch's wheels for Linux bring the CUDA libraries with them, so a plain Python image is enough.
FROM python:3.12-slim-bookworm

# A compiler for medpy, which has no wheels, and for main.py --compile
RUN apt-get update \
    && apt-get install -y --no-install-recommends make gcc g++ \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
# Requirements first: the layer of several GB is built again only when they change
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir -r requirements.txt -c constraints.txt
COPY . .
# --user may be anybody: caches go where anybody may write
RUN mkdir -p data results && chmod -R a+rwX data results
# The commit that every run notes; .git stays outside
ARG COMMIT=unknown
ENV COMMIT=$COMMIT
ENV PY=python HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib PYTHONDONTWRITEBYTECODE=1
CMD ["make", "help"]
