{{/* PostgreSQL's configuration, as the data of a ConfigMap. Takes the root context. */}}
{{- define "portolan.infra.postgresConfig" -}}
postgresql.conf: |
  listen_addresses = '*'
  hba_file = '/etc/postgres/config/pg_hba.conf'
  password_encryption = 'scram-sha-256'
  ssl = on
  ssl_min_protocol_version = 'TLSv1.3'
  ssl_cert_file = '/etc/postgres/tls/tls.crt'
  ssl_key_file = '/etc/postgres/tls/tls.key'
  # Clients' certificates come from Vault's intermediate authority; they send it along, so the root is enough here.
  ssl_ca_file = '/etc/portolan-ca/ca.crt'
  {{- range $name, $value := .Values.postgres.bundled.parameters }}
  {{ $name }} = '{{ $value | toString | replace "'" "''" }}'
  {{- end }}
pg_hba.conf: |
  # From within the pod, the user postgres of its system.
  local   all      all                   peer
  {{- if not .Values.vault.bundled.enabled }}
  # A Vault outside has no certificate of this installation: TLS and a password, and nothing but making logins.
  hostssl postgres vault_admin 0.0.0.0/0 scram-sha-256
  hostssl postgres vault_admin ::/0      scram-sha-256
  {{- end }}
  # Everybody else: TLS, a certificate of this installation, and a password. Nothing else is let in.
  hostssl all      all         0.0.0.0/0 scram-sha-256 clientcert=verify-ca
  hostssl all      all         ::/0      scram-sha-256 clientcert=verify-ca
vault-admin.sh: |
  # Run once, on an empty data directory. Vault makes logins as this role, and changes its password at once. It may end
  # sessions, because a revoked login must not go on in an open one.
  psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres -v password="$(cat /etc/postgres/bootstrap/vault_admin)" <<'SQL'
  CREATE ROLE vault_admin LOGIN CREATEROLE PASSWORD :'password';
  GRANT pg_signal_backend TO vault_admin;
  SQL
{{- end -}}
