FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /billproxy ./cmd/billproxy

# Nothing but the binary: no shell, no package to keep up to date.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /billproxy /billproxy
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
# The proxy and the admin page stay on the container's loopback unless asked for;
# a sidecar shares it with the service.
ENV BILLPROXY_HTTP_LISTEN=0.0.0.0:8080
EXPOSE 6432 8080 9432
HEALTHCHECK --interval=10s --timeout=6s --start-period=15s CMD ["/billproxy", "healthcheck"]
ENTRYPOINT ["/billproxy"]
CMD ["serve"]
