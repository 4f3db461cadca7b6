{{/*
What the bootstrap hook makes, as its configuration says it.
*/}}

{{/* Names of the Secrets that are more than one certificate. Take the root context. */}}
{{- define "portolan.secret.root" -}}
{{- include "portolan.name" (dict "ctx" . "component" "root-ca") -}}
{{- end -}}
{{- define "portolan.secret.postgres" -}}
{{- if .Values.postgres.bundled.enabled -}}
{{- include "portolan.name" (dict "ctx" . "component" "postgres") }}-bootstrap
{{- else -}}
{{- .Values.postgres.external.adminSecret -}}
{{- end -}}
{{- end -}}
{{- define "portolan.secret.demoUsers" -}}
{{- include "portolan.name" (dict "ctx" . "component" "demo-users") -}}
{{- end -}}

{{/* bootstrap.toml as YAML. Takes the root context. */}}
{{- define "portolan.bootstrap.config" -}}
{{- $values := .Values -}}
namespace: {{ .Release.Namespace }}
trust_domain: {{ $values.global.trustDomain }}
pod_security: {{ $values.podSecurity.enforce | quote }}
root_secret: {{ include "portolan.secret.root" . }}
ca_config_map: {{ include "portolan.name" (dict "ctx" . "component" "ca") }}
labels:
  {{- include "portolan.bootstrap.labels" . | nindent 2 }}
certificate:
  {{- if $values.postgres.bundled.enabled }}
  {{- include "portolan.bootstrap.certificate" (dict "ctx" . "component" "postgres") | nindent 2 }}
  {{- end }}
  {{- if $values.kafka.bundled.enabled }}
  {{- include "portolan.bootstrap.certificate" (dict "ctx" . "component" "kafka" "pods" $values.kafka.bundled.replicas) | nindent 2 }}
  {{- end }}
  {{- if $values.valkey.bundled.enabled }}
  {{- include "portolan.bootstrap.certificate" (dict "ctx" . "component" "valkey" "pods" $values.valkey.bundled.replicas) | nindent 2 }}
  {{- end }}
  {{- if $values.vault.bundled.enabled }}
  {{- include "portolan.bootstrap.certificate" (dict "ctx" . "component" "vault") | nindent 2 }}
  {{- end }}
  {{- if $values.jaeger.bundled.enabled }}
  {{- include "portolan.bootstrap.certificate" (dict "ctx" . "component" "jaeger") | nindent 2 }}
  {{- end }}
  {{- if include "portolan.vaultConfigure.certificate" . }}
  {{- include "portolan.bootstrap.certificate" (dict "ctx" . "component" "vault-configure") | nindent 2 }}
  {{- end }}
{{- if $values.postgres.bundled.enabled }}
secret:
  - name: {{ include "portolan.secret.postgres" . }}
    keys: [superuser, vault_admin]
{{- end }}
{{- if $values.vault.bundled.enabled }}
empty_secret:
  - name: {{ include "portolan.infra.unsealSecret" . }}
{{- end }}
{{- if $values.demo.enabled }}
demo_users:
  secret: {{ include "portolan.secret.demoUsers" . }}
  users: {{ keys $values.demo.users | sortAlpha | toJson }}
{{- end }}
{{- end -}}

{{/*
One certificate: for the names of the Service, of its pods (if they are called by names of their own; takes pods, their number), and
of the pod itself from within.
*/}}
{{- define "portolan.bootstrap.certificate" -}}
{{- $dns := include "portolan.dnsNames" . | fromYamlArray -}}
{{- with .pods -}}
{{- $dns = concat $dns (include "portolan.infra.podNames" (merge (dict "count" .) $) | fromYamlArray) -}}
{{- end -}}
- secret: {{ include "portolan.infra.tlsSecret" . }}
  component: {{ .component }}
  name: {{ include "portolan.name" . }}
  dns: {{ append $dns "localhost" | toJson }}
  ips: ["127.0.0.1"]
  days: {{ .ctx.Values.tls.infrastructureDays }}
{{- end -}}

{{/* By these everything is found that the hook made: Helm does not know of it and leaves it when the release goes. */}}
{{- define "portolan.bootstrap.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: {{ .Chart.Name }}
app.kubernetes.io/managed-by: {{ .Chart.Name }}-bootstrap
{{- end -}}

{{/* The names of all the Secrets, as a YAML list. Takes the root context. */}}
{{- define "portolan.infra.secrets" -}}
{{- $config := include "portolan.bootstrap.config" . | fromYaml -}}
{{- $names := list $config.root_secret -}}
{{- range $config.certificate | default list -}}{{- $names = append $names .secret -}}{{- end -}}
{{- range $config.secret | default list -}}{{- $names = append $names .name -}}{{- end -}}
{{- range $config.empty_secret | default list -}}{{- $names = append $names .name -}}{{- end -}}
{{- with $config.demo_users -}}{{- $names = append $names .secret -}}{{- end -}}
{{- toYaml $names -}}
{{- end -}}
