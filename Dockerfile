# One static binary and an empty data directory, run by a user without rights. It needs nothing of its base: another one,
# with a shell for looking around, is `docker build --build-arg BASE=debian:stable-slim .`
ARG BASE=scratch

FROM golang:1.26 AS build
ARG VERSION=
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/coord ./cmd/coord \
 && mkdir -m 700 /out/data

FROM ${BASE}
COPY --from=build /out/coord /coord
# A named volume takes owner and mode of the directory that it is first mounted on.
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
VOLUME /data
# Below the volume, because a volume's own directory may be open to others, or hold lost+found.
ENV COORD_DATA_DIR=/data/coord
# Loopback is the default, and would be of no use in a container.
ENV COORD_LISTEN=:7070
ENV COORD_PEER_LISTEN=:7071
EXPOSE 7070 7071
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/coord", "check", "--member", "-q"]
ENTRYPOINT ["/coord"]
CMD ["serve"]
