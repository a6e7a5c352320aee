# A node, and the tool: docker build -t quorlog .
FROM debian:trixie-slim AS build
WORKDIR /src
COPY scripts/deps scripts/deps
RUN scripts/deps
COPY . .
RUN CC=gcc meson setup /build --prefix=/usr --buildtype=release -Dtests=false \
    && meson compile -C /build \
    && DESTDIR=/out meson install -C /build --no-rebuild --strip

FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        libbloom2 libinih1 libisal2 libjansson4 liblmdb0 liblz4-1 libprotobuf-c1 libraft0 libssl3t64 libuv1t64 \
        libzstd1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
    && groupadd --gid 10001 quorlog \
    && useradd --uid 10001 --gid quorlog --no-create-home --home-dir /var/lib/quorlog \
        --shell /usr/sbin/nologin quorlog \
    && install -d -o quorlog -g quorlog -m 0750 /var/lib/quorlog
COPY --from=build /out/usr/bin/quorlog /usr/bin/quorlog

# Nothing but the data directory is ever written: the root file system may be read-only.
ENV QUORLOG_LISTEN=0.0.0.0:7437 QUORLOG_DATA=/var/lib/quorlog
USER 10001:10001
WORKDIR /var/lib/quorlog
VOLUME /var/lib/quorlog
EXPOSE 7437
# This node answers. Whether the cluster is whole is another question, and no reason to restart it.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
    CMD ["quorlog", "cluster", "status", "--server", "127.0.0.1:7437", "--timeout", "2000"]
ENTRYPOINT ["quorlog"]
# A single node; a member of a cluster is given --id, --bootstrap as well (docker-compose.yml).
CMD ["serve", "--advertise", "127.0.0.1:7437"]
