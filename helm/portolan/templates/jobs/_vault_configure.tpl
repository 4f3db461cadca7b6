{{/*
What the Job is told that brings Vault up to date.
*/}}

{{/* Whether the PostgreSQL server wants a certificate of its clients. Takes the root context. */}}
{{- define "portolan.vaultConfigure.certificate" -}}
{{- $postgres := .Values.postgres -}}
{{- $asks := or $postgres.bundled.enabled (and $postgres.external.enabled $postgres.external.clientCertificate) -}}
{{- if and (include "portolan.vault.configured" .) $asks -}}
true
{{- end -}}
{{- end -}}

{{/* The file that a PostgreSQL server's certificate is checked against. Takes the root context. */}}
{{- define "portolan.vaultConfigure.postgresCa" -}}
{{- $postgres := .Values.postgres -}}
{{- ternary "/etc/portolan-ca/ca.crt" "/etc/portolan-postgres-ca/ca.crt" (or $postgres.bundled.enabled (not $postgres.external.caConfigMap)) -}}
{{- end -}}

{{/* Whether Vault has an authority that is none of our business. Takes the root context. */}}
{{- define "portolan.vaultConfigure.ownAuthority" -}}
{{- if and .Values.vault.external.enabled .Values.vault.external.ownAuthority -}}
true
{{- end -}}
{{- end -}}

{{/* configure.toml as YAML. Takes the root context. */}}
{{- define "portolan.vaultConfigure.config" -}}
{{- $values := .Values -}}
{{- $vault := $values.vault -}}
vault:
  address: {{ include "portolan.vault.address" . }}
  ca: {{ include "portolan.vault.caFile" . }}
  auth_mount: {{ $vault.authMount }}
  role: configure
  {{- if $vault.bundled.enabled }}
  own_policy: configure
  {{- end }}
  prefix: {{ $vault.rolePrefix }}
  audience: {{ $vault.audience }}
  namespace: {{ .Release.Namespace }}
pki:
  mount: {{ $vault.mounts.pki }}
  trust_domain: {{ $values.global.trustDomain }}
  leaf_ttl: {{ $values.tls.leafTtl }}
  {{- if not (include "portolan.vaultConfigure.ownAuthority" .) }}
  root_cert: /etc/portolan-root/tls.crt
  root_key: /etc/portolan-root/tls.key
  {{- end }}
{{- if or $values.postgres.bundled.enabled $values.postgres.external.enabled }}
database:
  {{- include "portolan.vaultConfigure.database" . | nindent 2 }}
{{- end }}
kv:
  mount: {{ $vault.mounts.kv }}
  {{- if $values.demo.enabled }}
  demo_users_dir: /etc/portolan-demo-users
  roles: {{ toJson $values.demo.users }}
  {{- end }}
workload:
  {{- range include "portolan.workloads" . | fromYamlArray }}
  - name: {{ .name }}
    service_account: {{ .serviceAccount }}
    dns: {{ toJson .dns }}
    {{- with .databases }}
    databases: {{ toJson . }}
    {{- end }}
    {{- with .access }}
    access: {{ . }}
    {{- end }}
    kv: {{ toJson .kv }}
  {{- end }}
{{- end -}}

{{/* `[database]`. Takes the root context. */}}
{{- define "portolan.vaultConfigure.database" -}}
{{- $external := .Values.postgres.external -}}
{{- $bundled := .Values.postgres.bundled.enabled -}}
mount: {{ .Values.vault.mounts.database }}
host: {{ include "portolan.postgres.host" . }}
port: {{ include "portolan.postgres.port" . }}
ca: {{ include "portolan.vaultConfigure.postgresCa" . }}
superuser_password_file: /etc/portolan-postgres/superuser
admin_password_file: /etc/portolan-postgres/vault_admin
{{- if not $bundled }}
shared_server: true
superuser: {{ $external.superuser }}
admin: {{ $external.admin }}
{{- end }}
{{- if include "portolan.vaultConfigure.certificate" . }}
client_cert: /etc/portolan-client/tls.crt
client_key: /etc/portolan-client/tls.key
{{- if .Values.vault.bundled.enabled }}
vault_ca: {{ include "portolan.vaultConfigure.postgresCa" . }}
vault_cert: /etc/vault/tls/tls.crt
vault_key: /etc/vault/tls/tls.key
{{- end }}
{{- end }}
default_ttl: {{ .Values.secrets.database.defaultTtl }}
max_ttl: {{ .Values.secrets.database.maxTtl }}
{{- end -}}

{{/* The Secrets that the Job sees, as a YAML map: directory below /etc to Secret. Takes the root context. */}}
{{- define "portolan.vaultConfigure.secrets" -}}
{{- if not (include "portolan.vaultConfigure.ownAuthority" .) }}
portolan-root: {{ include "portolan.secret.root" . }}
{{- end }}
{{- with include "portolan.secret.postgres" . }}
portolan-postgres: {{ . }}
{{- end }}
{{- if include "portolan.vaultConfigure.certificate" . }}
portolan-client: {{ include "portolan.infra.tlsSecret" (dict "ctx" . "component" "vault-configure") }}
{{- end }}
{{- if .Values.demo.enabled }}
portolan-demo-users: {{ include "portolan.secret.demoUsers" . }}
{{- end }}
{{- end -}}

{{- define "portolan.vaultConfigure.mounts" -}}
{{ include "portolan.caMount" (dict "ctx" .) }}
{{ include "portolan.vault.caMount" . }}
{{- range $name, $secret := include "portolan.vaultConfigure.secrets" . | fromYaml }}
- name: {{ $name }}
  mountPath: /etc/{{ $name }}
  readOnly: true
{{- end }}
- name: vault-token
  mountPath: /var/run/secrets/vault
  readOnly: true
{{- end -}}

{{- define "portolan.vaultConfigure.volumes" -}}
{{ include "portolan.caVolume" (dict "ctx" .) }}
{{ include "portolan.vault.caVolume" . }}
{{- range $name, $secret := include "portolan.vaultConfigure.secrets" . | fromYaml }}
{{ include "portolan.job.secretVolume" (dict "name" $name "secret" $secret) }}
{{- end }}
- name: vault-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          audience: {{ .Values.vault.audience }}
          expirationSeconds: 600
{{- end -}}
