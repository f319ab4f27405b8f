"""The Envoy configuration that lets browsers in: gRPC-Web in front of gRPC, and nothing but the services named.

It is text with comments, for people to read and keep. What comes from outside stands in it as JSON strings, which YAML
reads as they are, so that no name can become a part of the configuration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Final

from ephaptic_grpc.codegen.envoy_text import TYPES, address, fill, hosts_of, is_ip, quoted, split
from ephaptic_grpc.codegen.envoy_tls import UpstreamTLS, downstream_tls
from ephaptic_grpc.limits import PING_SECONDS
from ephaptic_grpc.names import rpc_name
from ephaptic_grpc.origins import ALLOWED_HEADERS, EXPOSED_HEADERS, check_pages
from ephaptic_grpc.service import Service
from ephaptic_grpc.tls import TLS


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticFile:
    """A file that is served beside the services.

    Attributes:
        path: where it is read from.
        content_type: what it is, such as ``text/html``.
        size: in bytes.
    """

    path: str
    content_type: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What an Envoy in front of servers does.

    Attributes:
        upstreams: the servers, each ``host:port``, or the path of a Unix socket; every one serves every service.
        listen: ``host:port`` to listen on; port 0 takes a free one.
        origins: the sites whose pages may call, such as ``https://app.example.com``. A page that Envoy itself serves
            needs none.
        headers: names of the request headers that such pages may send besides those of gRPC-Web and ``authorization``.
        hosts: the names that it answers to; none means all. A page of another site can reach what listens on loopback
            under a name of its own that leads there.
        tls: the files of Envoy's own certificate, and of the authorities whose certificates callers must have. Without
            TLS browsers speak HTTP/1.1, which gives a page six calls at a time.
        upstream_tls: how the servers prove who they are; None where they speak plaintext.
        admin: ``host:port`` of Envoy's admin interface, or the path of a Unix socket for it.
        access_log: whether each call is told on stdout, as a line of JSON.
        files: what is served beside the services, by its URL path.

    Raises:
        ValueError: an address, an origin or a header that is none; the message says what would be right.
    """

    upstreams: tuple[str, ...] = ("127.0.0.1:50051",)
    listen: str = "127.0.0.1:8080"
    origins: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    tls: TLS | None = None
    upstream_tls: UpstreamTLS | None = None
    admin: str = "127.0.0.1:9901"
    access_log: bool = True
    files: Mapping[str, StaticFile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.upstreams:
            raise ValueError("a gateway needs a server to send calls to")
        for upstream in self.upstreams:
            if not upstream.startswith("/"):
                split(upstream)
        split(self.listen)
        if self.upstream_tls is not None and self.upstream_tls.name is None and not hosts_of(self.upstreams):
            raise ValueError("servers at Unix sockets need the name that their certificates are for")
        check_pages(self.origins, self.headers)


def envoy_config(services: Sequence[Service], gateway: Gateway) -> str:
    """The configuration, as YAML, of an Envoy in front of servers of these services.

    Args:
        services: what may be called. Calls of anything else are UNIMPLEMENTED.
        gateway: where it listens, whom it lets in, where calls go.
    """
    exposing = [service for service in services if service.exposes_anything]
    return fill(
        """
        # Made by ephaptic-grpc envoy. Envoy 1.40 or later: envoy -c envoy.yaml
        admin:
          address: $admin
        static_resources:
          listeners:
          - name: web
            address: $listen
            per_connection_buffer_limit_bytes: 1048576
            filter_chains:
            -
              $tls
              filters:
              - name: envoy.filters.network.http_connection_manager
                typed_config:
                  $connections
          clusters:
          - name: servers
            $cluster
        # Beyond so many connections new ones are refused, not left waiting.
        overload_manager:
          refresh_interval: 0.25s
          resource_monitors:
          - name: envoy.resource_monitors.global_downstream_max_connections
            typed_config:
              "@type": $types.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
              max_active_downstream_connections: 10000
        """,
        admin=address(gateway.admin),
        listen=address(gateway.listen),
        tls="" if gateway.tls is None else downstream_tls(gateway.tls),
        connections=_connections(exposing, gateway),
        cluster=_cluster(gateway.upstreams, gateway.upstream_tls),
    ).join(("", "\n"))


def _connections(services: Sequence[Service], gateway: Gateway) -> str:
    return fill(
        """
        "@type": $types.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: web
        use_remote_address: true  # behind another proxy that is trusted: false
        normalize_path: true
        merge_slashes: true
        path_with_escaped_slashes_action: REJECT_REQUEST
        # A stream has no end of its own: nothing here may cut one. Requests that dawdle are another matter.
        request_timeout: 0s
        stream_idle_timeout: 0s
        request_headers_timeout: 10s
        delayed_close_timeout: 0.1s  # else a client of HTTP/1.1 hears of a reset a second late
        drain_timeout: 5s
        common_http_protocol_options: {idle_timeout: 3600s, headers_with_underscores_action: REJECT_REQUEST}
        http2_protocol_options:
          max_concurrent_streams: 100
          initial_stream_window_size: 65536
          initial_connection_window_size: 1048576
        $access_log
        http_filters:
        - name: envoy.filters.http.cors
          typed_config: {"@type": $types.filters.http.cors.v3.Cors}
        - name: envoy.filters.http.grpc_web
          typed_config: {"@type": $types.filters.http.grpc_web.v3.GrpcWeb}
        - name: envoy.filters.http.grpc_stats
          typed_config:
            "@type": $types.filters.http.grpc_stats.v3.FilterConfig
            individual_method_stats_allowlist:
              services:
              $measured
        - name: envoy.filters.http.router
          typed_config: {"@type": $types.filters.http.router.v3.Router}
        route_config:
          name: services
          ignore_port_in_host_matching: true
          max_direct_response_body_size_bytes: $largest
          virtual_hosts:
          $other_hosts
          - name: services
            domains: [$hosts]
            $cors
            # Only what no server has begun is tried again, and never at the same one.
            retry_policy:
              retry_on: connect-failure,refused-stream
              num_retries: 3
              retry_back_off: {base_interval: 0.01s, max_interval: 0.1s}
              retry_host_predicate:
              - name: envoy.retry_host_predicates.previous_hosts
                typed_config: {"@type": $types.retry.host.previous_hosts.v3.PreviousHostsPredicate}
              host_selection_retry_max_attempts: 5
            # No timeout: the servers keep their callers' deadlines themselves.
            routes:
            $routes
        """,
        access_log=_ACCESS_LOG if gateway.access_log else "",
        measured="\n".join(map(_methods, services)),
        largest=str(max([4096, *(file.size for file in gateway.files.values())])),
        hosts=", ".join(map(quoted, gateway.hosts or ("*",))),
        other_hosts=_OTHER_HOSTS if gateway.hosts else "",
        cors=_cors(gateway),
        routes="\n".join(
            [
                _REFUSED_ROUTES,
                *(_file_route(path, file) for path, file in gateway.files.items()),
                _NO_FILE_ROUTE,
                *(
                    f"- match: {{prefix: {quoted(f'/{service.name}/')}}}\n  route: {{cluster: servers, timeout: 0s}}"
                    for service in services
                ),
                _OTHER_ROUTE,
            ]
        ),
    )


def _methods(service: Service) -> str:
    rpcs = ", ".join(quoted(rpc_name(name)) for name in service.procedures)
    return f"- {{name: {quoted(service.name)}, method_names: [{rpcs}]}}"


_ACCESS_LOG: Final = dedent("""\
    access_log:
    - name: envoy.access_loggers.stdout
      typed_config:
        "@type": $types.access_loggers.stream.v3.StdoutAccessLog
        log_format:
          json_format:
            time: "%START_TIME%"
            path: "%REQ(:PATH)%"
            protocol: "%PROTOCOL%"
            status: "%RESPONSE_CODE%"
            flags: "%RESPONSE_FLAGS%"
            reason: "%RESPONSE_CODE_DETAILS%"
            milliseconds: "%DURATION%"
            origin: "%REQ(ORIGIN)%"
            server: "%UPSTREAM_HOST%\"""").replace("$types", TYPES)


def _cors(gateway: Gateway) -> str:
    return fill(
        """
        # It hides answers from pages of other sites; it is no access control. Each origin is matched exactly.
        typed_per_filter_config:
          envoy.filters.http.cors:
            "@type": $types.filters.http.cors.v3.CorsPolicy
            allow_origin_string_match: [$origins]
            allow_methods: "POST"
            allow_headers: $allowed
            expose_headers: $exposed
            allow_credentials: true
            max_age: "7200"
            forward_not_matching_preflights: false
        """,
        origins=", ".join(f"{{exact: {quoted(origin)}}}" for origin in gateway.origins),
        allowed=quoted(",".join((*ALLOWED_HEADERS, *gateway.headers))),
        exposed=quoted(",".join(EXPOSED_HEADERS)),
    )


def _file_route(path: str, file: StaticFile) -> str:
    return fill(
        """
        - match: {path: $path, headers: [{name: ":method", string_match: {exact: GET}}]}
          direct_response: {status: 200, body: {filename: $file}}
          response_headers_to_add:
          - header: {key: content-type, value: $content_type}
            append_action: OVERWRITE_IF_EXISTS_OR_ADD
          - header: {key: cache-control, value: no-cache}
          - header: {key: x-content-type-options, value: nosniff}
        """,
        path=quoted(path),
        file=quoted(file.path),
        content_type=quoted(file.content_type.replace("%", "%%")),
    )


_OTHER_HOSTS: Final = dedent("""\
    - name: other hosts
      domains: ["*"]
      routes:
      - match: {prefix: "/"}
        direct_response: {status: 421, body: {inline_string: "this name is not served: see --origin"}}""")

_SPOKEN: Final = (
    "gRPC and gRPC-Web are spoken here, not plain JSON: that is what ephaptic_grpc.asgi.web_app serves, and "
    "ephaptic-grpc serve --web --without-envoy"
)

_REFUSED_ROUTES: Final = dedent("""\
    # gRPC's server in Python stops listening at a path, or a query, that isn't UTF-8.
    - match:
        prefix: "/"
        headers: [{name: ":path", string_match: {safe_regex: {regex: "[!-~]*"}}, invert_match: true}]
      direct_response: {status: 400}
    # It takes whatever content type for its own.
    - match:
        prefix: "/"
        headers:
        - {name: ":method", string_match: {exact: POST}}
        - name: content-type
          string_match: {prefix: application/grpc, ignore_case: true}
          treat_missing_header_as_empty: true
          invert_match: true
      direct_response: {status: 415, body: {inline_string: $spoken}}""").replace("$spoken", quoted(_SPOKEN))

_NO_FILE_ROUTE: Final = dedent("""\
    # No call is a GET.
    - match: {prefix: "/", headers: [{name: ":method", string_match: {exact: GET}}]}
      direct_response: {status: 404}""")

_OTHER_ROUTE: Final = dedent("""\
    # Anything else is UNIMPLEMENTED, and says so with CORS headers, which Envoy's own 404 would lack.
    - match: {prefix: "/"}
      route: {cluster: servers, prefix_rewrite: /unimplemented/, timeout: 5s}""")


def _cluster(upstreams: tuple[str, ...], tls: UpstreamTLS | None) -> str:
    hosts = hosts_of(upstreams)
    by_name = any(not is_ip(host) for host in hosts)
    return fill(
        """
        $discovery
        connect_timeout: 1s
        $tls
        lb_policy: LEAST_REQUEST
        per_connection_buffer_limit_bytes: 1048576
        typed_extension_protocol_options:
          envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
            "@type": $types.upstreams.http.v3.HttpProtocolOptions
            explicit_http_config:
              http2_protocol_options:
                connection_keepalive: {interval: $pings, timeout: 5s}  # ephaptic_grpc's server allows so many
                max_concurrent_streams: 1000
                # gRPC's server takes a header for a broken one where the last of its name on the connection was broken,
                # unless both are sent in full; and clients share connections.
                hpack_table_size: 0
        circuit_breakers:
          thresholds:
          - {max_connections: 1024, max_pending_requests: 1024, max_requests: 10000, max_retries: 16}
        # A server that drains or is gone gets no calls, even where no other is left.
        common_lb_config: {healthy_panic_threshold: {value: 0}}
        health_checks:
        - timeout: 2s
          interval: 1s
          no_traffic_interval: 1s
          unhealthy_threshold: 2
          healthy_threshold: 1
          grpc_health_check: {}
        load_assignment:
          cluster_name: servers
          endpoints:
          - lb_endpoints:
            $endpoints
        """,
        discovery="type: STRICT_DNS\ndns_lookup_family: ALL" if by_name else "type: STATIC",
        tls="" if tls is None else tls.text(hosts),
        pings=f"{PING_SECONDS:g}s",
        endpoints="\n".join(f"- endpoint: {{address: {address(upstream)}}}" for upstream in upstreams),
    )
