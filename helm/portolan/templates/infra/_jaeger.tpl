{{/*
Jaeger's configuration, as the data of a ConfigMap. Its built-in one listens on the loopback interface only and keeps a hundred
thousand traces. Takes the root context.
*/}}
{{- define "portolan.infra.jaegerConfig" -}}
config.yaml: |
  service:
    extensions: [jaeger_storage, jaeger_query, healthcheckv2]
    pipelines:
      traces:
        receivers: [otlp]
        processors: [batch]
        exporters: [jaeger_storage_exporter]
    telemetry:
      metrics:
        level: none
      logs:
        level: info
  extensions:
    healthcheckv2:
      use_v2: true
      http:
        endpoint: 0.0.0.0:13133
    jaeger_query:
      storage:
        traces: memory
      http:
        endpoint: 0.0.0.0:16686
      grpc:
        endpoint: 127.0.0.1:16685
    jaeger_storage:
      backends:
        memory:
          memory:
            # The oldest go first.
            max_traces: {{ .Values.jaeger.bundled.maxTraces }}
  receivers:
    otlp:
      protocols:
        grpc:
          endpoint: 0.0.0.0:4317
          tls:
            min_version: "1.3"
            cert_file: /etc/jaeger/tls/tls.crt
            key_file: /etc/jaeger/tls/tls.key
            client_ca_file: /etc/portolan-ca/ca.crt
            reload_interval: 1h
  processors:
    batch: {}
  exporters:
    jaeger_storage_exporter:
      trace_storage: memory
{{- end -}}
