# The redirector, one per node, on the node's own network and BPF file system:
#   podman build -f docker/node-redirect.Dockerfile -t node-redirect .
#   podman run --privileged --network host -v /sys/fs/bpf:/sys/fs/bpf \
#     -v /etc/egress-gateway:/etc/egress-gateway:ro node-redirect
FROM debian:12 AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
      build-essential pkg-config ca-certificates curl clang libbpf-dev libelf-dev zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
RUN curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal
ENV PATH=/root/.cargo/bin:$PATH
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p node-redirect

FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends libelf1 zlib1g iproute2 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/node-redirect /usr/local/bin/
ENTRYPOINT ["node-redirect"]
CMD ["run", "--config", "/etc/egress-gateway/node-redirect.toml"]
