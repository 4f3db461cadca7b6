{{/*
Jobs. An ordinary Job cannot be changed, so its name ends with a hash of its pod: an upgrade that changes nothing leaves it as it is,
any other makes a new one and removes the old. For the same reason finished ones stay: one that expired would be made again.
*/}}

{{/*
A Job of our own. Takes what portolan.pod takes; moreover backoffLimit, and hook (a weight) to run it before the release instead of
with it.
*/}}
{{- define "portolan.job" -}}
{{- $template := include "portolan.job.template" . -}}
{{- $suffix := printf "-%s" ($template | sha256sum | trunc 8) -}}
{{/* Helm does not track hooks: it finds the one to replace by its name. */}}
{{- if hasKey . "hook" -}}{{- $suffix = "" -}}{{- end -}}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "portolan.metadata" (merge (dict "suffix" $suffix) .) | nindent 2 }}
  {{- with include "portolan.job.hook" . }}
  annotations:
    {{- . | nindent 4 }}
    helm.sh/hook-output-log-policy: hook-failed
  {{- end }}
spec:
  backoffLimit: {{ .backoffLimit }}
  template:
    {{- $template | nindent 4 }}
{{- end -}}

{{/* Its pod. The agent is a native sidecar and ends with it. `Never`: what failed stays, with its log. */}}
{{- define "portolan.job.template" -}}
{{- $pod := merge (dict "once" true "restartPolicy" "Never") . -}}
metadata:
  {{- include "portolan.podMetadata" $pod | nindent 2 }}
spec:
  {{- include "portolan.pod" $pod | nindent 2 }}
{{- end -}}

{{/* What the pod of a Job needs besides: its account and its configuration. Takes what portolan.job takes. */}}
{{- define "portolan.job.needs" -}}
{{- $annotations := dict -}}
{{- if hasKey . "hook" -}}
{{- $annotations = include "portolan.job.hook" (dict "hook" (sub (int .hook) 1)) | fromYaml -}}
{{- end -}}
{{ include "portolan.serviceAccount" (merge (dict "annotations" $annotations) .) }}
---
{{ include "portolan.configMap" (merge (dict "annotations" $annotations) .) }}
{{- end -}}

{{/* The annotations of a hook; none without hook (its weight). */}}
{{- define "portolan.job.hook" -}}
{{- if hasKey . "hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ .hook | quote }}
helm.sh/hook-delete-policy: {{ .deletePolicy | default "before-hook-creation" }}
{{- end -}}
{{- end -}}

{{/* Whether migrations, and what they need, run before the release. Takes the root context. */}}
{{- define "portolan.migrations.hook" -}}
{{- if eq .Values.migrations.mode "hook" -}}
true
{{- end -}}
{{- end -}}

{{/* Whether there is a Job that configures Vault. Takes the root context. */}}
{{- define "portolan.vault.configured" -}}
{{- $vault := .Values.vault -}}
{{- if and $vault.configure.enabled (or $vault.bundled.enabled $vault.external.enabled) -}}
true
{{- end -}}
{{- end -}}

{{/* A Secret as a volume of files that the group of the pod may read. Takes name (of the volume), secret. */}}
{{- define "portolan.job.secretVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
{{- end -}}
