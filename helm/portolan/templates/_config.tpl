{{/*
The configuration files of the services. The programs refuse keys that they do not know; `check-config` of each tells.
*/}}

{{/* A service's TOML file. Takes ctx, component (the service, also for its migration). */}}
{{- define "portolan.config" -}}
{{- $service := include "portolan.service" . | fromYaml -}}
{{- $config := include "portolan.config.common" . | fromYaml -}}
{{- $config = merge $config (include (printf "portolan.config.%s" .component) .ctx | fromYaml) -}}
{{- $config = mustMergeOverwrite $config (deepCopy ($service.config | default dict)) -}}
{{- include "portolan.toml" (dict "table" $config) | trim -}}
{{- end -}}

{{/* What several services have. */}}
{{- define "portolan.config.common" -}}
{{- $ctx := .ctx -}}
{{- $service := include "portolan.service" . | fromYaml -}}
{{- $ports := get (include "portolan.ports" . | fromYaml) .component -}}
server:
  listen: 0.0.0.0:{{ $ports.http | default $ports.https | default $ports.grpc }}
  admin_listen: 0.0.0.0:{{ $ports.admin }}
  drain_delay_ms: {{ $service.shutdown.drainMilliseconds }}
  grace_secs: {{ $service.shutdown.graceSeconds }}
  max_connection_age_secs: {{ $ctx.Values.tls.maxConnectionAge }}
telemetry:
  log_format: {{ $service.logs.format }}
  log_filter: {{ $service.logs.filter | quote }}
  {{- with include "portolan.jaeger.endpoint" $ctx }}
  otlp_endpoint: {{ . }}
  {{- end }}
{{ include "portolan.config.tls" $ctx }}
{{- with include "portolan.callers" . | fromYaml }}
callers:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $service.database }}
{{ include "portolan.config.database" (dict "ctx" $ctx "name" .name "timeout" $service.connectTimeoutSeconds) }}
{{- end }}
{{- with $service.kafka }}
{{ include "portolan.config.kafka" (dict "ctx" $ctx "timeout" $service.connectTimeoutSeconds) }}
{{- end }}
{{- end -}}

{{/* `[tls]`: who this is and whom it believes. Takes the root context. */}}
{{- define "portolan.config.tls" -}}
tls:
  identity: /secrets/tls.pem
  roots: /secrets/roots.pem
  trust_domain: {{ .Values.global.trustDomain }}
  namespace: {{ .Release.Namespace }}
  prefix: {{ include "portolan.prefix" . | quote }}
  poll_ms: {{ .Values.tls.pollMilliseconds }}
{{- end -}}

{{/* `[database]`. Takes ctx, name, timeout (seconds). */}}
{{- define "portolan.config.database" -}}
{{- $external := .ctx.Values.postgres.external -}}
{{- $bundled := .ctx.Values.postgres.bundled.enabled -}}
database:
  url: postgres://{{ include "portolan.postgres.host" .ctx }}:{{ include "portolan.postgres.port" .ctx }}/{{ .name }}
  credentials_file: /secrets/db.json
  tls_roots: {{ ternary "/secrets/roots.pem" "/etc/portolan-postgres-ca/ca.crt" (or $bundled (not $external.caConfigMap)) }}
  {{- if or $bundled $external.clientCertificate }}
  tls_identity: /secrets/tls.pem
  {{- end }}
  connect_timeout_secs: {{ .timeout }}
{{- end -}}

{{/* `[kafka]`. Takes ctx, timeout (seconds). */}}
{{- define "portolan.config.kafka" -}}
{{- $external := .ctx.Values.kafka.external -}}
kafka:
  brokers: {{ include "portolan.kafka.brokers" .ctx }}
  partitions: {{ .ctx.Values.kafka.partitions }}
  tls_roots: {{ ternary "/secrets/roots.pem" "/etc/portolan-kafka-ca/ca.crt" (or .ctx.Values.kafka.bundled.enabled (not $external.caConfigMap)) }}
  tls_identity: /secrets/tls.pem
  connect_timeout_secs: {{ .timeout }}
{{- end -}}

{{/* The URL of another service. Takes ctx, component. */}}
{{- define "portolan.url" -}}
https://{{ include "portolan.name" . }}:{{ include "portolan.port" (dict "component" .component "port" (ternary "https" "grpc" (eq .component "psp"))) }}
{{- end -}}

{{/* The payment provider: the simulator, or a real one. Takes the root context. */}}
{{- define "portolan.psp.url" -}}
{{- if .Values.services.psp.enabled -}}
{{- include "portolan.url" (dict "ctx" . "component" "psp") -}}
{{- else -}}
{{- .Values.services.psp.external.url -}}
{{- end -}}
{{- end -}}

{{/* What tokens say about their origin and their use. Takes the root context. */}}
{{- define "portolan.auth" -}}
{{- mergeOverwrite (dict "issuer" "portolan" "audience" "portolan") (deepCopy (.Values.services.gateway.config.auth | default dict)) | toYaml -}}
{{- end -}}

{{/* How Valkey is believed and who we are to it. Takes the root context. */}}
{{- define "portolan.config.valkeyTls" -}}
{{- $valkey := .Values.valkey -}}
tls_roots: {{ ternary "/secrets/roots.pem" "/etc/portolan-valkey-ca/ca.crt" (or $valkey.bundled.enabled (not $valkey.external.caConfigMap)) }}
tls_identity: /secrets/tls.pem
{{- end -}}

{{- define "portolan.config.gateway" -}}
order_url: {{ include "portolan.url" (dict "ctx" . "component" "order") }}
inventory_url: {{ include "portolan.url" (dict "ctx" . "component" "inventory") }}
{{- range $component := list "payment" "notification" }}
{{- if (index $.Values.services $component).enabled }}
{{ $component }}_url: {{ include "portolan.url" (dict "ctx" $ "component" $component) }}
{{- end }}
{{- end }}
auth:
  {{- include "portolan.auth" . | nindent 2 }}
{{- if .Values.demo.enabled }}
dev_issuer:
  enabled: true
  create_key: false
  key_file: /secrets/issuer.pem
  users_file: /secrets/users.json
{{- end }}
{{- with include "portolan.valkey.masters" . | fromYamlArray }}
quota:
  server: {{ last . }}
  {{- include "portolan.config.valkeyTls" $ | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "portolan.config.order" -}}
inventory_url: {{ include "portolan.url" (dict "ctx" . "component" "inventory") }}
{{- with include "portolan.valkey.masters" . | fromYamlArray }}
lock:
  masters: {{ toJson . }}
  {{- include "portolan.config.valkeyTls" $ | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "portolan.config.inventory" -}}
{}
{{- end -}}

{{- define "portolan.config.payment" -}}
{{- $psp := .Values.services.psp -}}
psp:
  url: {{ include "portolan.psp.url" . }}
  tls: {{ ternary "mesh" "public" $psp.enabled }}
  api_key_file: /secrets/provider.json
{{- end -}}

{{- define "portolan.config.notification" -}}
{{- with include "portolan.mail.host" . }}
smtp:
  url: smtp://{{ . }}:{{ include "portolan.mail.port" $ }}
{{- end }}
{{- end -}}

{{- define "portolan.config.psp" -}}
api_key_file: /secrets/provider.json
{{- end -}}
