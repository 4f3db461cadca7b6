{{/*
Relations between the values of the infrastructure that the schema cannot say, or not in words. Fails with a sentence; renders nothing.
Takes the root context.
*/}}
{{- define "portolan.infra.validate" -}}
{{- $values := .Values -}}
{{- if and $values.vault.bundled.enabled $values.vault.external.enabled -}}
{{- fail "vault: bundled and external cannot both be enabled" -}}
{{- end -}}
{{- if and $values.jaeger.bundled.enabled $values.jaeger.external.endpoint -}}
{{- fail "jaeger: with bundled.enabled, external.endpoint must be empty" -}}
{{- end -}}
{{- if and $values.mail.bundled.enabled $values.mail.external.url -}}
{{- fail "mail: with bundled.enabled, external.url must be empty" -}}
{{- end -}}
{{- if and (include "portolan.vault.configured" .) $values.postgres.external.enabled (not $values.postgres.external.adminSecret) -}}
{{- fail "postgres.external.adminSecret: Vault makes logins in PostgreSQL and needs a Secret with the passwords for that (or vault.configure.enabled=false)" -}}
{{- end -}}
{{- if include "portolan.migrations.hook" . -}}
{{- if not $values.postgres.external.enabled -}}
{{- fail "migrations.mode: hook needs postgres.external: the bundled PostgreSQL starts only after the hooks" -}}
{{- end -}}
{{- if and $values.vault.bundled.enabled (ne $values.secrets.delivery "kubernetesSecret") -}}
{{- fail "migrations.mode: hook needs vault.external: the bundled Vault starts only after the hooks" -}}
{{- end -}}
{{- end -}}
{{- end -}}
