{{/*
How secrets reach a pod: as files under /secrets, the same ones whatever brings them. By default `vault agent` writes them, as a
native sidecar: it starts before the program, outlives it, and does not keep a Job from ending.
*/}}

{{/* The files that a workload has under /secrets, as a YAML list. Takes ctx, component. */}}
{{- define "portolan.agent.files" -}}
{{- $entry := get (include "portolan.model" .ctx | fromYaml) .component -}}
{{- $files := list -}}
{{- if $entry.identity -}}
{{- $files = list "tls.pem" "roots.pem" -}}
{{- if $entry.database -}}{{- $files = append $files "db.json" -}}{{- end -}}
{{- $ofItem := dict "issuer" "issuer.pem" "users" "users.json" "provider" "provider.json" -}}
{{- range $entry.kv | default list -}}{{- $files = append $files (get $ofItem .) -}}{{- end -}}
{{- end -}}
{{- toYaml $files -}}
{{- end -}}

{{/*
The agent's configuration. Takes ctx, component, tokenDirectory, and once (true: end after the first rendering).
*/}}
{{- define "portolan.agent.config" -}}
{{- $values := .ctx.Values -}}
{{- if .once }}
exit_after_auth = true
{{- end }}
vault {
  address = {{ include "portolan.vault.address" .ctx | quote }}
  ca_cert = {{ include "portolan.vault.caFile" .ctx | quote }}
  # The default of 12 gives up after a minute and a half: too early for a first installation.
  retry { num_retries = 120 }
}
auto_auth {
  method "kubernetes" {
    mount_path  = "auth/{{ $values.vault.authMount }}"
    min_backoff = "1s"
    max_backoff = "3s"
    config = {
      role       = "{{ $values.vault.rolePrefix }}{{ include "portolan.name" . }}"
      token_path = "{{ .tokenDirectory }}/token"
    }
  }
}
template_config {
  exit_on_retry_failure         = true
  static_secret_render_interval = "{{ $values.secrets.agent.renderInterval }}"
  max_connections_per_host      = 2
}
{{- range include "portolan.agent.files" . | fromYamlArray }}
template {
  destination          = "/secrets/{{ . }}"
  perms                = "0440"
  error_on_missing_key = true
  contents             = <<EOT
{{ include (printf "portolan.agent.%s" .) $ }}
EOT
}
{{- end }}
{{- end -}}

{{/*
The templates, one for each file. A certificate is one file and one template, written beside its destination and renamed: two
templates would issue two certificates, and writeToFile could be read half-written. Each takes ctx, component.
*/}}
{{- define "portolan.agent.tls.pem" -}}
{{- $name := include "portolan.name" . -}}
{{- $arguments := list
  (printf "%s/issue/%s" .ctx.Values.vault.mounts.pki $name)
  (printf "common_name=%s" $name)
  (printf "alt_names=%s" (include "portolan.dnsNames" . | fromYamlArray | join ","))
  (printf "uri_sans=%s" (include "portolan.spiffeId" .))
  "private_key_format=pkcs8" -}}
{{ "{{" }}- with pkiCert{{ range $arguments }} {{ quote . }}{{ end }} -}}
{{ "{{ .Cert }}{{ .CA }}{{ .Key }}" }}
{{ "{{- end }}" }}
{{- end -}}

{{- define "portolan.agent.roots.pem" -}}
{{ "{{" }}- with secret "{{ .ctx.Values.vault.mounts.pki }}/cert/ca_chain" -}}
{{ "{{ .Data.ca_chain }}" }}
{{ "{{- end }}" }}
{{- end -}}

{{- define "portolan.agent.db.json" -}}
{{ "{{" }}- with secret "{{ .ctx.Values.vault.mounts.database }}/creds/{{ include "portolan.name" . }}" -}}
{{ `{"username":{{ .Data.username | toJSON }},"password":{{ .Data.password | toJSON }}}` }}
{{ "{{- end }}" }}
{{- end -}}

{{- define "portolan.agent.issuer.pem" -}}
{{ "{{" }}- with secret "{{ .ctx.Values.vault.mounts.kv }}/data/issuer" -}}
{{ "{{ .Data.data.pem }}" }}
{{ "{{- end }}" }}
{{- end -}}

{{- define "portolan.agent.users.json" -}}
{{ "{{" }}- with secret "{{ .ctx.Values.vault.mounts.kv }}/data/users" -}}
{{ "{{ .Data.data.users | toJSON }}" }}
{{ "{{- end }}" }}
{{- end -}}

{{- define "portolan.agent.provider.json" -}}
{{ "{{" }}- with secret "{{ .ctx.Values.vault.mounts.kv }}/data/provider" -}}
{{ `{"api_key":{{ .Data.data.api_key | toJSON }},"previous_api_key":{{ index .Data.data "previous_api_key" | toJSON }}}` }}
{{ "{{- end }}" }}
{{- end -}}

{{/* The sidecar, for under `initContainers`. Takes ctx, component. */}}
{{- define "portolan.agent.container" -}}
{{- $agent := .ctx.Values.secrets.agent -}}
{{- $tests := list -}}
{{- range include "portolan.agent.files" . | fromYamlArray -}}
{{- $tests = append $tests (printf "test -s /secrets/%s" .) -}}
{{- end -}}
- name: agent
  {{- include "portolan.image" (dict "ctx" .ctx "image" $agent.image) | nindent 2 }}
  restartPolicy: Always
  command: [vault, agent, -config=/etc/portolan-agent/agent.hcl, -log-level={{ $agent.logLevel }}]
  securityContext:
    {{- include "portolan.securityContext" . | nindent 4 }}
  resources:
    {{- toYaml $agent.resources | nindent 4 }}
  # The program starts when all its files are there. Half an hour: the images of everything else may still be coming.
  startupProbe:
    exec:
      command: [sh, -c, {{ join " && " $tests | quote }}]
    periodSeconds: 1
    failureThreshold: 1800
  volumeMounts:
    - name: agent-config
      mountPath: /etc/portolan-agent
      readOnly: true
    - name: vault-token
      mountPath: /var/run/secrets/vault
      readOnly: true
    {{- include "portolan.vault.caMount" .ctx | nindent 4 }}
    - name: secrets
      mountPath: /secrets
{{- end -}}

{{/* Whether a workload gets files from Vault or from a Secret: agentSidecar, injector, kubernetesSecret, or nothing. Takes ctx, component. */}}
{{- define "portolan.agent.delivery" -}}
{{- if (get (include "portolan.model" .ctx | fromYaml) .component).identity -}}
{{- .ctx.Values.secrets.delivery -}}
{{- end -}}
{{- end -}}

{{/* The mount of the files in the program's container; the injector makes its own. Takes ctx, component. */}}
{{- define "portolan.agent.mounts" -}}
{{- $delivery := include "portolan.agent.delivery" . -}}
{{- if eq $delivery "injector" }}
{{ include "portolan.vault.caMount" .ctx }}
{{- else if $delivery }}
- name: secrets
  mountPath: /secrets
  readOnly: true
{{- end }}
{{- end -}}

{{/* The volumes that the files need. Takes ctx, component. */}}
{{- define "portolan.agent.volumes" -}}
{{- $delivery := include "portolan.agent.delivery" . -}}
{{- $name := include "portolan.name" . -}}
{{- if eq $delivery "kubernetesSecret" }}
- name: secrets
  secret:
    secretName: {{ get .ctx.Values.secrets.kubernetesSecrets .component | default (printf "%s-secrets" $name) }}
    defaultMode: 0440
    items:
      {{- range include "portolan.agent.files" . | fromYamlArray }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- else if $delivery }}
{{ include "portolan.vault.caVolume" .ctx }}
# For Vault alone, and only the agent sees it: nobody else's audience accepts it.
- name: vault-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          audience: {{ .ctx.Values.vault.audience }}
          expirationSeconds: 600
{{- if eq $delivery "agentSidecar" }}
- name: agent-config
  configMap:
    name: {{ $name }}
    items:
      - key: agent.hcl
        path: agent.hcl
- name: secrets
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
{{- end }}
{{- end }}
{{- end -}}

{{/* What Vault's injector wants to know; it takes the agent's configuration from our ConfigMap. Takes ctx, component, container, once. */}}
{{- define "portolan.agent.annotations" -}}
{{- if eq (include "portolan.agent.delivery" .) "injector" -}}
{{- $agent := .ctx.Values.secrets.agent -}}
vault.hashicorp.com/agent-inject: "true"
vault.hashicorp.com/agent-image: {{ include "portolan.imageReference" (dict "ctx" .ctx "repository" $agent.image.repository "tag" $agent.image.tag "digest" $agent.image.digest) | quote }}
vault.hashicorp.com/agent-init-first: "true"
vault.hashicorp.com/agent-configmap: {{ include "portolan.name" . }}
vault.hashicorp.com/agent-copy-volume-mounts: {{ .prepares | default .container }}
{{- with .prepares }}{{/* the other container has no business with them */}}
vault.hashicorp.com/agent-inject-containers: {{ . }}
{{- end }}
vault.hashicorp.com/agent-service-account-token-volume-name: vault-token
vault.hashicorp.com/secret-volume-path: /secrets
vault.hashicorp.com/agent-run-as-user: "65532"
vault.hashicorp.com/agent-run-as-group: "65532"
vault.hashicorp.com/agent-requests-cpu: {{ $agent.resources.requests.cpu | quote }}
vault.hashicorp.com/agent-requests-mem: {{ $agent.resources.requests.memory | quote }}
vault.hashicorp.com/agent-limits-cpu: ""
vault.hashicorp.com/agent-limits-mem: {{ $agent.resources.limits.memory | quote }}
{{- if .once }}{{/* an ordinary second container would keep a Job from ending */}}
vault.hashicorp.com/agent-pre-populate-only: "true"
{{- end }}
{{- end -}}
{{- end -}}
