{{/*
What the Job is told that makes Kafka's topics and access control lists: kafka.toml as YAML. It is the broker itself that logs in, as
the super user that it is. Takes the root context.
*/}}
{{- define "portolan.kafkaConfigure.config" -}}
{{- $kafka := .Values.kafka -}}
brokers: {{ include "portolan.kafka.brokers" . }}
tls_identity: /etc/portolan-identity/bundle.pem
tls_roots: {{ ternary "/etc/portolan-ca/ca.crt" "/etc/portolan-kafka-ca/ca.crt" (or $kafka.bundled.enabled (not $kafka.external.caConfigMap)) }}
partitions: {{ $kafka.partitions }}
replication_factor: {{ ternary (min 3 (int $kafka.bundled.replicas)) (int $kafka.external.replicationFactor) $kafka.bundled.enabled }}
topic:
  {{- range include "portolan.topics" . | fromYamlArray }}
  - name: {{ . }}
  {{- end }}
principal:
  {{- include "portolan.kafkaPrincipals" . | nindent 2 }}
{{- end -}}

{{- define "portolan.kafkaConfigure.mounts" -}}
{{ include "portolan.caMount" . }}
- name: identity
  mountPath: /etc/portolan-identity
  readOnly: true
{{- end -}}
