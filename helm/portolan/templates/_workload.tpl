{{/*
One pod of ours: a program of ours with its configuration and its secrets. Services, tools and migrations are all made of it.
*/}}

{{/*
The files that a workload's pod is configured by: the data of its ConfigMap. Takes ctx, component, files (name to text, may be empty).
*/}}
{{- define "portolan.configData" -}}
{{- $agent := dict "ctx" .ctx "component" .component "tokenDirectory" "/var/run/secrets/vault" -}}
{{- $delivery := include "portolan.agent.delivery" . -}}
{{- $files := deepCopy (.files | default dict) -}}
{{- if eq $delivery "agentSidecar" -}}
{{- $_ := set $files "agent.hcl" (include "portolan.agent.config" $agent | trim) -}}
{{- else if eq $delivery "injector" -}}
{{- $_ := set $agent "tokenDirectory" "/var/run/secrets/vault.hashicorp.com/serviceaccount" -}}
{{- $_ := set $files "config.hcl" (include "portolan.agent.config" $agent | trim) -}}
{{- $_ := set $files "config-init.hcl" (include "portolan.agent.config" (merge (dict "once" true) $agent) | trim) -}}
{{- end -}}
{{- range $name, $text := $files -}}
{{ $name }}: |
  {{- $text | nindent 2 }}
{{ end }}
{{- end -}}

{{/* The ConfigMap of a workload, named like it. Takes ctx, component, files, and optionally annotations. */}}
{{- define "portolan.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "portolan.metadata" . | nindent 2 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
data:
  {{- include "portolan.configData" . | trim | nindent 2 }}
{{- end -}}

{{/*
Labels and annotations of a pod. The checksum is that of the ConfigMap alone: what an agent renews must not restart anything.
Takes ctx, component, container, files, once (a pod that ends), and optionally annotations.
*/}}
{{- define "portolan.podMetadata" -}}
labels:
  {{- include "portolan.podLabels" . | nindent 2 }}
{{- $annotations := merge (.annotations | default dict) .ctx.Values.global.podAnnotations (include "portolan.agent.annotations" . | fromYaml) -}}
{{- with include "portolan.configData" . -}}
{{- $_ := set $annotations "checksum/config" (sha256sum .) -}}
{{- end -}}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
A pod's spec. Takes
  ctx, component
  image        one of ours: order, ..., cli
  container    the container's name
  args         what the program is called with
  files        the ConfigMap's files, mounted in /etc/portolan (may be empty)
  env          map of environment variables
  resources
  fields       more of the container, as YAML: ports, probes, lifecycle
  mounts, volumes   more of them, as YAML
  before       init containers that run once the secrets are there, as YAML
  main         the container instead of one of ours, as YAML; prepares is then the name of the init container that has the secrets
  restartPolicy     for Jobs
  pod          more of the pod, as YAML
*/}}
{{- define "portolan.pod" -}}
{{- include "portolan.podBasics" . }}
{{- with .restartPolicy }}
restartPolicy: {{ . }}
{{- end }}
{{- with .pod }}
{{ . }}
{{- end }}
{{- $sidecar := eq (include "portolan.agent.delivery" .) "agentSidecar" }}
{{- if or $sidecar .before }}
initContainers:
  {{- if $sidecar }}
  {{- include "portolan.agent.container" . | nindent 2 }}
  {{- end }}
  {{- with .before }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}
containers:
  {{- if .main }}
  - {{ .main | nindent 4 | trim }}
  {{- else }}
  - {{ include "portolan.container" . | nindent 4 | trim }}
  {{- end }}
volumes:
  {{- if .files }}
  - name: config
    configMap:
      name: {{ include "portolan.name" . }}
      items:
        {{- range $name, $_ := .files }}
        - key: {{ $name }}
          path: {{ $name }}
        {{- end }}
  {{- end }}
  {{- with include "portolan.agent.volumes" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with include "portolan.externalCas" (dict "ctx" .ctx "component" .component "kind" "volumes") | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .volumes }}
  {{- . | nindent 2 }}
  {{- end }}
  - name: tmp
    emptyDir:
      sizeLimit: 64Mi
{{- end -}}

{{/* The program's container, also for an init container of the same image. Takes what portolan.pod takes. */}}
{{- define "portolan.container" -}}
name: {{ .container }}
{{ include "portolan.ownImage" (dict "ctx" .ctx "name" .image) }}
args: {{ toJson .args }}
{{- with .env }}
env:
  {{- include "portolan.env" . | trim | nindent 2 }}
{{- end }}
securityContext:
  {{- include "portolan.securityContext" . | nindent 2 }}
resources:
  {{- toYaml .resources | nindent 2 }}
{{- with .fields }}
{{ . }}
{{- end }}
volumeMounts:
  {{- if .files }}
  - name: config
    mountPath: /etc/portolan
    readOnly: true
  {{- end }}
  {{- with include "portolan.agent.mounts" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with include "portolan.externalCas" (dict "ctx" .ctx "component" .component "kind" "mounts") | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .mounts }}
  {{- . | nindent 2 }}
  {{- end }}
  - name: tmp
    mountPath: /tmp
{{- end -}}

{{/* The authorities of external servers, for those who use them. Takes ctx, component, kind (volumes or mounts). */}}
{{- define "portolan.externalCas" -}}
{{- $entry := get (include "portolan.model" .ctx | fromYaml) .component -}}
{{- $kind := .kind -}}
{{- range $server, $edge := dict "postgres" "postgres/pg" "kafka" "kafka/mtls" "valkey" "valkey/tls" -}}
{{- $section := get $.ctx.Values $server -}}
{{- if and (not $section.bundled.enabled) $section.external.caConfigMap (has $edge ($entry.uses | default list)) }}
- name: {{ $server }}-ca
  {{- if eq $kind "volumes" }}
  configMap:
    name: {{ $section.external.caConfigMap }}
  {{- else }}
  mountPath: /etc/portolan-{{ $server }}-ca
  readOnly: true
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}
