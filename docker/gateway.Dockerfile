# The gateway, for a host with hugepages and its NICs bound to a userspace driver:
#   podman build -f docker/gateway.Dockerfile -t egress-gateway .
#   podman run --privileged --network host -v /dev/hugepages:/dev/hugepages -v /etc/egress-gateway:/etc/egress-gateway:ro \
#     -v /var/lib/egress-gateway:/var/lib/egress-gateway egress-gateway
FROM debian:12 AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
      build-essential pkg-config ca-certificates curl clang libclang-dev libdpdk-dev libnuma-dev \
    && rm -rf /var/lib/apt/lists/*
RUN curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal
ENV PATH=/root/.cargo/bin:$PATH
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p gateway

FROM debian:12-slim
# The EAL loads its drivers as plugins from this package's folder.
RUN apt-get update && apt-get install -y --no-install-recommends librte-meta-all librte-meta-allpmds \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/egress-gateway /usr/local/bin/
ENTRYPOINT ["egress-gateway"]
CMD ["run", "--config", "/etc/egress-gateway/gateway.toml"]
