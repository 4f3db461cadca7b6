{{/*
The tools are one program, the image `cli`. Each has an account, a configuration and policies of its own, like a service.
*/}}

{{/* A tool's TOML file. Takes ctx, component. */}}
{{- define "portolan.tool.config" -}}
{{- $entry := get (include "portolan.model" .ctx | fromYaml) .component -}}
{{- $config := dict -}}
{{- if $entry.identity -}}
{{- $config = include "portolan.config.tls" .ctx | fromYaml -}}
{{- end -}}
{{- $config = merge $config (include (printf "portolan.tool.config.%s" .component) .ctx | fromYaml) -}}
{{- include "portolan.toml" (dict "table" $config) | trim -}}
{{- end -}}

{{- define "portolan.tool.config.seed" -}}
services:
  inventory: {{ include "portolan.url" (dict "ctx" . "component" "inventory") }}
{{- end -}}

{{- define "portolan.tool.config.load" -}}
services:
  gateway: [{{ include "portolan.gatewayUrl" . }}]
  payment: {{ include "portolan.url" (dict "ctx" . "component" "payment") }}
issuer:
  key_file: /secrets/issuer.pem
  {{- with include "portolan.auth" . | fromYaml }}
  name: {{ .issuer }}
  audience: {{ .audience }}
  {{- end }}
{{- end -}}

{{- define "portolan.tool.config.k6" -}}
{{- pick (include "portolan.tool.config.load" . | fromYaml) "issuer" | toYaml }}
{{- end -}}

{{- define "portolan.tool.config.audit" -}}
{{- $database := (include "portolan.config.database" (dict "ctx" . "name" "" "timeout" 0) | fromYaml).database -}}
databases:
  {{- range $component, $service := .Values.services }}
  {{- if and $service.enabled $service.database }}
  {{ $component }}: {{ $database.url }}{{ $service.database.name }}
  {{- end }}
  {{- end }}
  {{- omit $database "url" "connect_timeout_secs" | toYaml | nindent 2 }}
kafka:
  {{- omit (include "portolan.config.kafka" (dict "ctx" . "timeout" 0) | fromYaml).kafka "partitions" "connect_timeout_secs" | toYaml | nindent 2 }}
{{- end -}}

{{/* How the gateway is called inside. Takes the root context. */}}
{{- define "portolan.gatewayUrl" -}}
http://{{ include "portolan.name" (dict "ctx" . "component" "gateway") }}:{{ .Values.exposure.service.port }}
{{- end -}}

{{/* What a tool's account, ConfigMap and pod are made from. Takes ctx, component, args, and what else portolan.pod takes. */}}
{{- define "portolan.tool.jobSpec" -}}
{{- $pod := merge (dict
  "image" "cli"
  "container" .component
  "once" true
  "restartPolicy" "Never"
  "resources" (get .ctx.Values.tools .component).resources) . -}}
backoffLimit: {{ .backoffLimit | default 0 }}
template:
  metadata:
    {{- include "portolan.podMetadata" $pod | nindent 4 }}
  spec:
    {{- include "portolan.pod" $pod | nindent 4 }}
{{- end -}}

{{/* A suspended CronJob: the form from which `kubectl create job --from=cronjob/<name>` makes a Job. Takes what jobSpec takes. */}}
{{- define "portolan.tool.onDemand" -}}
{{ include "portolan.serviceAccount" . }}
---
{{ include "portolan.configMap" . }}
---
apiVersion: batch/v1
kind: CronJob
metadata:
  {{- include "portolan.metadata" . | nindent 2 }}
spec:
  suspend: true
  schedule: "@yearly"
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      ttlSecondsAfterFinished: 86400
      {{- include "portolan.tool.jobSpec" . | nindent 6 }}
{{- end -}}
