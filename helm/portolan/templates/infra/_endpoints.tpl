{{/*
Where things are: what is bundled under its name, what is external as the values say. All take the root context.
*/}}

{{- define "portolan.postgres.host" -}}
{{- if .Values.postgres.bundled.enabled -}}
{{- include "portolan.name" (dict "ctx" . "component" "postgres") -}}
{{- else -}}
{{- .Values.postgres.external.host -}}
{{- end -}}
{{- end -}}

{{- define "portolan.postgres.port" -}}
{{- ternary 5432 (int .Values.postgres.external.port) .Values.postgres.bundled.enabled -}}
{{- end -}}

{{/* Bootstrap brokers; the bundled ones under the names that they advertise. */}}
{{- define "portolan.kafka.brokers" -}}
{{- if .Values.kafka.bundled.enabled -}}
{{- $brokers := list -}}
{{- range include "portolan.infra.podNames" (dict "ctx" . "component" "kafka" "count" .Values.kafka.bundled.replicas) | fromYamlArray -}}
{{- $brokers = append $brokers (printf "%s:9092" .) -}}
{{- end -}}
{{- join "," $brokers -}}
{{- else -}}
{{- .Values.kafka.external.brokers -}}
{{- end -}}
{{- end -}}

{{/* The masters of the customers' lock, the last of which counts the gateway's quota, as a YAML list; empty for a shop without. */}}
{{- define "portolan.valkey.masters" -}}
{{- if .Values.valkey.bundled.enabled -}}
{{- range include "portolan.infra.podNames" (dict "ctx" . "component" "valkey" "count" .Values.valkey.bundled.replicas) | fromYamlArray }}
- {{ . }}:6379
{{- end -}}
{{- else -}}
{{- toYaml .Values.valkey.external.masters -}}
{{- end -}}
{{- end -}}

{{- define "portolan.vault.address" -}}
{{- if .Values.vault.bundled.enabled -}}
https://{{ include "portolan.name" (dict "ctx" . "component" "vault") }}:8200
{{- else -}}
{{- .Values.vault.external.address -}}
{{- end -}}
{{- end -}}

{{/* What Vault's certificate is checked against, in the pods of those who log in to it. */}}
{{- define "portolan.vault.caFile" -}}
/etc/portolan-vault-ca/ca.crt
{{- end -}}
{{- define "portolan.vault.caVolume" -}}
- name: vault-ca
  configMap:
    name: {{ ternary "" .Values.vault.external.caConfigMap .Values.vault.bundled.enabled | default (include "portolan.name" (dict "ctx" . "component" "ca")) }}
{{- end -}}
{{- define "portolan.vault.caMount" -}}
- name: vault-ca
  mountPath: {{ include "portolan.vault.caFile" . | dir }}
  readOnly: true
{{- end -}}

{{/* Where spans go; empty for nowhere. */}}
{{- define "portolan.jaeger.endpoint" -}}
{{- if .Values.jaeger.bundled.enabled -}}
https://{{ include "portolan.name" (dict "ctx" . "component" "jaeger") }}:4317
{{- else -}}
{{- .Values.jaeger.external.endpoint -}}
{{- end -}}
{{- end -}}

{{/* Where mails go; empty for nowhere. */}}
{{- define "portolan.mail.host" -}}
{{- if .Values.mail.bundled.enabled -}}
{{- include "portolan.name" (dict "ctx" . "component" "mailpit") -}}
{{- else -}}
{{- regexReplaceAll "^smtp://(.*):[0-9]+/?$" .Values.mail.external.url "${1}" -}}
{{- end -}}
{{- end -}}
{{- define "portolan.mail.port" -}}
{{- if .Values.mail.bundled.enabled -}}
1025
{{- else -}}
{{- regexReplaceAll "^.*:([0-9]+)/?$" .Values.mail.external.url "${1}" -}}
{{- end -}}
{{- end -}}

{{/* The pods of a StatefulSet by the names of their own that DNS knows, as a YAML list. Takes ctx, component, count. */}}
{{- define "portolan.infra.podNames" -}}
{{- $name := include "portolan.name" . -}}
{{- $domain := printf "%s.%s.svc.%s" $name .ctx.Release.Namespace .ctx.Values.global.clusterDomain -}}
{{- range $number := until (int .count) }}
- {{ $name }}-{{ $number }}.{{ $domain }}
{{- end }}
{{- end -}}
