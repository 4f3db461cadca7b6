{{/*
Who may talk to whom, as network policies: one for each workload, with one rule for each edge of `portolan.model`. An edge has two
halves, egress of the one and ingress of the other.
*/}}

{{/* One workload's policy. Takes ctx, component, model. */}}
{{- define "portolan.networkPolicy" -}}
{{- $entry := get .model .component -}}
{{- $ingress := include "portolan.network.ingress" . | trim -}}
{{- $egress := include "portolan.network.egress" . | trim -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "portolan.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "portolan.selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- with $ingress }}
  ingress:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with $egress }}
  egress:
    {{- . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Rules for those who use a workload, and for strangers that the values name. Takes ctx, component, model. */}}
{{- define "portolan.network.ingress" -}}
{{- $ctx := .ctx -}}
{{- $callee := .component -}}
{{- $policy := $ctx.Values.networkPolicy -}}
{{- range $caller, $entry := .model -}}
{{- range $use := $entry.uses -}}
{{- if eq (dir $use) $callee }}
- from:
    {{- include "portolan.network.pods" (dict "ctx" $ctx "component" $caller) | nindent 4 }}
  ports:
    {{- include "portolan.network.port" (include "portolan.port" (dict "component" $callee "port" (base $use))) | nindent 4 }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq (get .model $callee).kind "service" -}}
{{- with $policy.metricsFrom }}
- from:
    {{- toYaml . | nindent 4 }}
  ports:
    {{- include "portolan.network.port" (include "portolan.port" (dict "component" $callee "port" "admin")) | nindent 4 }}
{{- end -}}
{{- end -}}
{{- if eq $callee "gateway" }}
- ports:
    {{- include "portolan.network.port" (include "portolan.port" (dict "component" "gateway" "port" "http")) | nindent 4 }}
  {{- with $policy.gatewayFrom }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- if eq $callee "kafka" -}}
{{- with $policy.kafkaFrom }}
- from:
    {{- toYaml . | nindent 4 }}
  ports:
    {{- include "portolan.network.port" (include "portolan.port" (dict "component" "kafka" "port" "mtls")) | nindent 4 }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Rules for what a workload uses, inside and outside. Takes ctx, component, model. */}}
{{- define "portolan.network.egress" -}}
{{- $ctx := .ctx -}}
{{- $model := .model -}}
{{- range $use := (get .model .component).uses -}}
{{- $callee := dir $use -}}
{{- if eq $callee "apiserver" }}
{{ include "portolan.network.apiServer" $ctx }}
{{- else if hasKey $model $callee }}
- to:
    {{- include "portolan.network.pods" (dict "ctx" $ctx "component" $callee) | nindent 4 }}
  ports:
    {{- include "portolan.network.port" (include "portolan.port" (dict "component" $callee "port" (base $use))) | nindent 4 }}
{{- else }}
{{ include "portolan.network.external" (dict "ctx" $ctx "component" $callee) }}
{{- end -}}
{{- end -}}
{{- if hasKey $ctx.Values.services .component -}}
{{- range (include "portolan.service" . | fromYaml).egress }}
{{ include "portolan.network.addresses" . }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A peer: the pods of a component. Takes ctx, component. */}}
{{- define "portolan.network.pods" -}}
- podSelector:
    matchLabels:
      {{- include "portolan.selectorLabels" . | nindent 6 }}
{{- end -}}

{{/* Takes a port number. */}}
{{- define "portolan.network.port" -}}
- {protocol: TCP, port: {{ . }}}
{{- end -}}

{{/* An egress rule for addresses; no addresses are all of them, no ports are all. Takes cidrs, ports. */}}
{{- define "portolan.network.addresses" -}}
- to:
    {{- range .cidrs | default (list "0.0.0.0/0") }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
  {{- with .ports }}
  ports:
    {{- range . }}
    {{- include "portolan.network.port" . | nindent 4 }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* An egress rule for what is outside, at the ports in its address. Takes ctx, component. */}}
{{- define "portolan.network.external" -}}
{{- $values := .ctx.Values -}}
{{- $outside := dict
  "postgres" (dict "external" $values.postgres.external "at" (printf "%s:%v" $values.postgres.external.host $values.postgres.external.port))
  "kafka" (dict "external" $values.kafka.external "at" $values.kafka.external.brokers)
  "valkey" (dict "external" $values.valkey.external "at" (join "," $values.valkey.external.masters))
  "vault" (dict "external" $values.vault.external "at" $values.vault.external.address)
  "jaeger" (dict "external" $values.jaeger.external "at" $values.jaeger.external.endpoint)
  "mailpit" (dict "external" $values.mail.external "at" $values.mail.external.url)
  "psp" (dict "external" $values.services.psp.external "at" $values.services.psp.external.url) -}}
{{- with get $outside .component -}}
{{- $ports := list -}}
{{- range splitList "," .at -}}
{{- $ports = append $ports (include "portolan.network.portOf" .) -}}
{{- end -}}
{{- include "portolan.network.addresses" (dict "cidrs" .external.cidrs "ports" (uniq $ports)) -}}
{{- end -}}
{{- end -}}

{{/* The port in `host:port` or a URL, otherwise that of its scheme. Takes the text. */}}
{{- define "portolan.network.portOf" -}}
{{- $authority := regexReplaceAll "^[a-z]+://([^/?#]*).*$" . "${1}" -}}
{{- if regexMatch ":[0-9]+$" $authority -}}
{{- regexFind "[0-9]+$" $authority -}}
{{- else -}}
{{- ternary "80" "443" (hasPrefix "http://" .) -}}
{{- end -}}
{{- end -}}

{{/*
An egress rule for the API server. Policies see its real address, behind its Service, which no pod selector matches: it is
configured, or looked up, or (where there is no cluster to ask) any address at the ports it usually has. Takes the root context.
*/}}
{{- define "portolan.network.apiServer" -}}
{{- $policy := .Values.networkPolicy -}}
{{- $slice := dict -}}
{{- if and $policy.lookup (not $policy.apiServerCidrs) -}}
{{- $slice = lookup "discovery.k8s.io/v1" "EndpointSlice" "default" "kubernetes" -}}
{{- end -}}
{{- if $policy.apiServerCidrs -}}
{{ include "portolan.network.addresses" (dict "cidrs" $policy.apiServerCidrs) }}
{{- else if $slice.endpoints -}}
{{- $cidrs := list -}}
{{- $ports := list -}}
{{- range $slice.endpoints -}}
{{- range .addresses -}}{{- $cidrs = append $cidrs (include "portolan.network.cidr" .) -}}{{- end -}}
{{- end -}}
{{- range $slice.ports -}}{{- $ports = append $ports .port -}}{{- end -}}
{{ include "portolan.network.addresses" (dict "cidrs" (sortAlpha $cidrs) "ports" $ports) }}
{{- else -}}
{{ include "portolan.network.addresses" (dict "ports" (list 443 6443 8443)) }}
{{- end -}}
{{- end -}}

{{/* One address as a block. */}}
{{- define "portolan.network.cidr" -}}
{{ . }}/{{ ternary 128 32 (contains ":" .) }}
{{- end -}}

{{/*
The addresses of DNS servers that are no pods of kube-dns: those configured, NodeLocal DNSCache, and what the cluster says: the
address of the Service, which a cache on the node answers itself, and endpoints on the host's network, which no pod selector
matches. A YAML list; takes the root context.
*/}}
{{- define "portolan.network.dnsCidrs" -}}
{{- $cidrs := append .Values.networkPolicy.dnsCidrs "169.254.20.10/32" -}}
{{- if .Values.networkPolicy.lookup -}}
{{- $service := lookup "v1" "Service" "kube-system" "kube-dns" -}}
{{- range ($service.spec | default dict).clusterIPs -}}
{{- if ne . "None" -}}{{- $cidrs = append $cidrs (include "portolan.network.cidr" .) -}}{{- end -}}
{{- end -}}
{{- range (lookup "discovery.k8s.io/v1" "EndpointSlice" "kube-system" "").items -}}
{{- if eq (get (.metadata.labels | default dict) "kubernetes.io/service-name") "kube-dns" -}}
{{- range .endpoints -}}
{{- if ne (.targetRef | default dict).kind "Pod" -}}
{{- range .addresses -}}{{- $cidrs = append $cidrs (include "portolan.network.cidr" .) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $cidrs | uniq | sortAlpha | toYaml -}}
{{- end -}}
