{{/*
The installation as data: every workload of this release, what it is allowed and what it needs. The allow-lists, Vault's
policies and roles, Kafka's access control lists and the network policies are all made from it, so that they cannot disagree.
*/}}

{{/*
The ports of every component, by name. Those that a network policy does not name cannot be reached.
*/}}
{{- define "portolan.ports" -}}
gateway: {http: 8080, admin: 9090}
order: {grpc: 8443, admin: 9090}
inventory: {grpc: 8443, admin: 9090}
payment: {grpc: 8443, admin: 9090}
notification: {grpc: 8443, admin: 9090}
psp: {https: 8443, admin: 9090}
postgres: {pg: 5432}
kafka: {mtls: 9092, controller: 9094}
valkey: {tls: 6379}
vault: {https: 8200}
jaeger: {otlp: 4317, query: 16686, health: 13133}
mailpit: {smtp: 1025, http: 8025}
{{- end -}}

{{/* One port. Takes component, port (its name). */}}
{{- define "portolan.port" -}}
{{- get (get (include "portolan.ports" . | fromYaml) .component) .port -}}
{{- end -}}

{{/*
All workloads: component -> {
  name        with prefix
  kind        service, migration, tool, job or infrastructure
  identity    whether it has a certificate and a login to Vault of its own
  database    {names: [...], access: runtime | owner | reader}, or nothing
  kv          items of Vault's KV that it may read: issuer, users, provider
  kafka       {produce: [...], consume: [...], groups: [...]}, or nothing
  uses        "component/port" of everything it connects to
}
Takes the root context; yields YAML.
*/}}
{{- define "portolan.model" -}}
{{- $ctx := . -}}
{{- $model := dict -}}
{{- range $component, $service := .Values.services -}}
{{- if $service.enabled -}}
{{- $_ := set $model $component (include "portolan.model.service" (dict "ctx" $ctx "component" $component) | fromYaml) -}}
{{- if and $service.database (ne $ctx.Values.migrations.mode "startup") -}}
{{- $migration := printf "%s-migrate" $component -}}
{{- $_ := set $model $migration (dict "kind" "migration" "identity" true "database" (dict "names" (list $service.database.name) "access" "owner") "uses" (list "postgres/pg")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $source := list "portolan.model.tools" "portolan.model.jobs" "portolan.model.infrastructure" -}}
{{- $_ := merge $model (include $source $ctx | fromYaml) -}}
{{- end -}}
{{- range $component, $entry := $model -}}
{{- $_ := set $entry "name" (include "portolan.name" (dict "ctx" $ctx "component" $component)) -}}
{{- $calls := include "portolan.calls" (dict "ctx" $ctx "component" $component) | fromYamlArray -}}
{{- $uses := concat ($entry.uses | default list) $calls -}}
{{- if and $entry.identity (ne $ctx.Values.secrets.delivery "kubernetesSecret") -}}
{{- $uses = append $uses "vault/https" -}}
{{- end -}}
{{- $_ := set $entry "uses" ($uses | uniq | sortAlpha) -}}
{{- end -}}
{{- toYaml $model -}}
{{- end -}}

{{/* The entry of one service. Takes ctx, component. */}}
{{- define "portolan.model.service" -}}
{{- $values := .ctx.Values -}}
{{- $service := get $values.services .component -}}
{{- $uses := list -}}
kind: service
identity: true
{{- with $service.database }}
{{- $uses = append $uses "postgres/pg" }}
database:
  names: [{{ .name }}]
  access: {{ ternary "owner" "runtime" (eq $values.migrations.mode "startup") }}
{{- end }}
{{- with $service.kafka }}
{{- $uses = append $uses "kafka/mtls" }}
kafka:
  produce: {{ toJson .produces }}
  consume: {{ toJson .consumes }}
  groups: {{ toJson (list .group) }}
{{- end }}
{{- if and (has .component (list "order" "gateway")) (include "portolan.valkey.masters" .ctx | fromYamlArray) }}
{{- $uses = append $uses "valkey/tls" }}
{{- end }}
{{- if include "portolan.jaeger.endpoint" .ctx }}
{{- $uses = append $uses "jaeger/otlp" }}
{{- end }}
{{- if and (eq .component "gateway") $values.demo.enabled }}
kv: [issuer, users]
{{- end }}
{{- if or (eq .component "psp") (eq .component "payment") }}
kv: [provider]
{{- end }}
{{- if and (eq .component "payment") (not $values.services.psp.enabled) }}
{{- $uses = append $uses "psp/https" }}
{{- end }}
{{- if and (eq .component "notification") (include "portolan.mail.host" .ctx) }}
{{- $uses = append $uses "mailpit/smtp" }}
{{- end }}
uses: {{ toJson $uses }}
{{- end -}}

{{/* The tools. The names of databases are those of the services that are installed. */}}
{{- define "portolan.model.tools" -}}
{{- $databases := list -}}
{{- range $service := .Values.services -}}
{{- if and $service.enabled $service.database -}}
{{- $databases = append $databases $service.database.name -}}
{{- end -}}
{{- end -}}
{{- if .Values.tools.seed.enabled }}
seed:
  kind: tool
  identity: true
{{- end }}
{{- if .Values.tools.test.enabled }}
test:
  kind: tool
  uses: {{ ternary (list "gateway/http" "jaeger/query") (list "gateway/http") .Values.jaeger.bundled.enabled | toJson }}
{{- end }}
{{- if .Values.tools.audit.enabled }}
audit:
  kind: tool
  identity: true
  database:
    names: {{ toJson $databases }}
    access: reader
  kafka:
    produce: []
    consume: {{ include "portolan.topics" . | fromYamlArray | toJson }}
    groups: [portolan-audit]
  uses: [postgres/pg, kafka/mtls]
{{- end }}
{{- if .Values.tools.load.enabled }}
load:
  kind: tool
  identity: true
  kv: [issuer]
  uses: [gateway/http]
{{- end }}
{{- if .Values.tools.k6.enabled }}
k6:
  kind: tool
  identity: true
  kv: [issuer]
  uses: [gateway/http]
{{- end }}
{{- end -}}

{{/* The Jobs that prepare the infrastructure; they log in on their own account, not with an agent. */}}
{{- define "portolan.model.jobs" -}}
bootstrap:
  kind: job
  uses: [apiserver/https]
{{- $vault := .Values.vault }}
{{- if and $vault.configure.enabled (or $vault.bundled.enabled $vault.external.enabled) }}
vault-configure:
  kind: job
  uses: [vault/https, postgres/pg]
{{- end }}
{{- if or .Values.kafka.bundled.enabled .Values.kafka.external.adminSecret }}
kafka-configure:
  kind: job
  uses: [kafka/mtls]
{{- end }}
{{- end -}}

{{/* What is bundled. */}}
{{- define "portolan.model.infrastructure" -}}
{{- if .Values.postgres.bundled.enabled }}
postgres: {kind: infrastructure}
{{- end }}
{{- if .Values.kafka.bundled.enabled }}
kafka:
  kind: infrastructure
  uses: {{ ternary (list "kafka/mtls" "kafka/controller") list (gt (int .Values.kafka.bundled.replicas) 1) | toJson }}
{{- end }}
{{- if .Values.valkey.bundled.enabled }}
valkey: {kind: infrastructure}
{{- end }}
{{- if .Values.vault.bundled.enabled }}
vault:
  kind: infrastructure
  uses: [apiserver/https, postgres/pg]
{{- end }}
{{- if .Values.jaeger.bundled.enabled }}
jaeger: {kind: infrastructure}
{{- end }}
{{- if .Values.mail.bundled.enabled }}
mailpit: {kind: infrastructure}
{{- end }}
{{- end -}}

{{/* All topics of the installed services, sorted, as a YAML list. */}}
{{- define "portolan.topics" -}}
{{- $topics := list -}}
{{- range $service := .Values.services -}}
{{- if and $service.enabled $service.kafka -}}
{{- $topics = concat $topics $service.kafka.produces $service.kafka.consumes -}}
{{- end -}}
{{- end -}}
{{- $topics | uniq | sortAlpha | toYaml -}}
{{- end -}}

{{/* The services that list a component as a caller, as a YAML list of "component/port". Takes ctx, component. */}}
{{- define "portolan.calls" -}}
{{- $caller := .component -}}
{{- $calls := list -}}
{{- range $callee, $service := .ctx.Values.services -}}
{{- if and $service.enabled (hasKey ($service.callers | default dict) $caller) -}}
{{- $calls = append $calls (printf "%s/%s" $callee (ternary "https" "grpc" (eq $callee "psp"))) -}}
{{- end -}}
{{- end -}}
{{- toYaml $calls -}}
{{- end -}}

{{/* The callers of a service that are installed, with their methods, as YAML. Takes ctx, component. */}}
{{- define "portolan.callers" -}}
{{- $ctx := .ctx -}}
{{- $callers := dict -}}
{{- range $caller, $methods := (get $ctx.Values.services .component).callers | default dict -}}
{{- $owner := ternary $ctx.Values.services $ctx.Values.tools (hasKey $ctx.Values.services $caller) -}}
{{- if (get $owner $caller).enabled -}}
{{- $_ := set $callers $caller $methods -}}
{{- end -}}
{{- end -}}
{{- toYaml $callers -}}
{{- end -}}

{{/*
Everybody with an identity, as `vault-configure` wants to know it: a YAML list of
{name, serviceAccount, dns, databases, database, access, kv}. `database` is there when there is exactly one.
*/}}
{{- define "portolan.workloads" -}}
{{- $ctx := . -}}
{{- $workloads := list -}}
{{- range $component, $entry := include "portolan.model" . | fromYaml -}}
{{- if $entry.identity -}}
{{- $dns := include "portolan.dnsNames" (dict "ctx" $ctx "component" $component) | fromYamlArray -}}
{{- $workload := dict "name" $entry.name "component" $component "serviceAccount" $entry.name "dns" $dns "kv" ($entry.kv | default list) -}}
{{- with $entry.database -}}
{{- $_ := set $workload "access" .access -}}
{{- $_ := set $workload "databases" .names -}}
{{- if eq (len .names) 1 -}}{{- $_ := set $workload "database" (first .names) -}}{{- end -}}
{{- end -}}
{{- $workloads = append $workloads $workload -}}
{{- end -}}
{{- end -}}
{{- toYaml $workloads -}}
{{- end -}}

{{/*
Everybody who uses Kafka, as `kafka-configure` wants to know it: a YAML list of {name, produce, consume, groups}.
*/}}
{{- define "portolan.kafkaPrincipals" -}}
{{- $principals := list -}}
{{- range $component, $entry := include "portolan.model" . | fromYaml -}}
{{- with $entry.kafka -}}
{{- $principals = append $principals (dict "name" $entry.name "produce" .produce "consume" .consume "groups" .groups) -}}
{{- end -}}
{{- end -}}
{{- toYaml $principals -}}
{{- end -}}
