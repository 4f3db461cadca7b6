{{/* The configuration of Vault's server, as the data of a ConfigMap. Takes the root context. */}}
{{- define "portolan.infra.vaultConfig" -}}
vault.hcl: |
  ui            = false
  # Memory cannot be locked without a capability; nodes should not swap.
  disable_mlock = true
  api_addr      = "{{ include "portolan.vault.address" . }}"
  # A cluster of one: the loopback interface is enough for it, and survives a change of the pod's address.
  cluster_addr  = "https://127.0.0.1:8201"

  storage "raft" {
    path                   = "/vault/data"
    node_id                = "vault-0"
    # Shorter timeouts: there is nobody to wait for.
    performance_multiplier = 1
  }

  listener "tcp" {
    address         = "0.0.0.0:8200"
    cluster_address = "127.0.0.1:8201"
    tls_cert_file   = "/etc/vault/tls/tls.crt"
    tls_key_file    = "/etc/vault/tls/tls.key"
    tls_min_version = "tls13"
  }
{{- end -}}

{{/* What the operator beside it is told: operator.toml as YAML. Takes the root context. */}}
{{- define "portolan.infra.vaultOperatorConfig" -}}
{{- $vault := .Values.vault -}}
address: https://127.0.0.1:8200
ca: /etc/portolan-ca/ca.crt
secret: {{ include "portolan.infra.unsealSecret" . }}
namespace: {{ .Release.Namespace }}
kubernetes_host: https://kubernetes.default.svc
configure:
  service_account: {{ include "portolan.name" (dict "ctx" . "component" "vault-configure") }}
  audience: {{ $vault.audience }}
  role: configure
  prefix: {{ $vault.rolePrefix }}
  mounts:
    auth: {{ $vault.authMount }}
    {{- toYaml $vault.mounts | nindent 4 }}
{{- end -}}

{{/* The Secret of the key that opens Vault. Takes the root context. */}}
{{- define "portolan.infra.unsealSecret" -}}
{{- include "portolan.name" (dict "ctx" . "component" "vault") }}-unseal
{{- end -}}
