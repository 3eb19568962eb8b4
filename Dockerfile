# obdbench on CPU: docker build -t obdbench . && docker run --rm -v "$PWD/results:/results" obdbench run smoke
FROM python:3.11-slim
# Address of PyTorch's package index for CPU builds; without it, torch may contain CUDA libraries.
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 OMP_NUM_THREADS=1 MUJOCO_GL=disable
WORKDIR /opt/obdbench
COPY constraints.txt ./
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY obdbench obdbench
RUN pip install -c constraints.txt '.[ray,minari,plots]'
WORKDIR /
ENTRYPOINT ["obdbench"]
CMD ["--help"]
