{{/* Valkey's configuration, as the data of a ConfigMap. Takes the root context. */}}
{{- define "portolan.infra.valkeyConfig" -}}
valkey.conf: |
  port 0
  tls-port 6379
  tls-protocols "TLSv1.3"
  tls-cert-file /etc/valkey/tls/tls.crt
  tls-key-file /etc/valkey/tls/tls.key
  tls-ca-cert-file /etc/portolan-ca/ca.crt
  # A certificate of this installation instead of a password; protected mode knows passwords only.
  tls-auth-clients yes
  protected-mode no

  # A lock that was given must be remembered through a restart: every write reaches the disk before it is answered.
  dir /data
  save ""
  appendonly yes
  appendfsync always

  # Rather no lock than one lock forgotten for another.
  maxmemory {{ .Values.valkey.bundled.maxMemory }}
  maxmemory-policy noeviction
{{- end -}}
