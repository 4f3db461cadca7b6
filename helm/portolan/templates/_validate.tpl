{{/*
What the schema cannot say: relations between values. Fails with a sentence; renders nothing. Takes the root context.
*/}}
{{- define "portolan.validate" -}}
{{- $values := .Values -}}
{{- range $section, $address := dict "jaeger" "endpoint" "mail" "url" -}}
{{- if and (get $values $section).bundled.enabled (get (get $values $section).external $address) -}}
{{- fail (printf "%s: bundled.enabled and external.%s exclude one another" $section $address) -}}
{{- end -}}
{{- end -}}
{{- if and $values.vault.bundled.enabled $values.vault.external.enabled -}}
{{- fail "vault: bundled.enabled and external.enabled exclude one another" -}}
{{- end -}}
{{- if and (ne $values.secrets.delivery "kubernetesSecret") (not $values.vault.bundled.enabled) (not $values.vault.external.enabled) -}}
{{- fail "secrets.delivery: without a Vault (vault.bundled or vault.external) only kubernetesSecret is possible" -}}
{{- end -}}
{{- if and $values.services.payment.enabled (not $values.services.psp.enabled) (not $values.services.psp.external.url) -}}
{{- fail "services.psp: without the simulator, services.psp.external.url must name a payment provider" -}}
{{- end -}}
{{- if and $values.services.gateway.enabled (not $values.demo.enabled) (not (include "portolan.auth" . | fromYaml).jwks_url) -}}
{{- fail "demo.enabled: without the demonstration's issuer, services.gateway.config.auth must have the issuer and jwks_url of an identity provider" -}}
{{- end -}}
{{- range $name, $section := dict "gateway" "quota" "order" "lock" -}}
{{- if and (get (get $values.services $name).config $section) (not (include "portolan.valkey.masters" $ | fromYamlArray)) -}}
{{- fail (printf "services.%s.config.%s: it needs a Valkey (valkey.bundled.enabled or valkey.external.masters)" $name $section) -}}
{{- end -}}
{{- end -}}
{{- range $tool := list "test" "load" "k6" -}}
{{- if and (get $values.tools $tool).enabled (not $values.demo.enabled) -}}
{{- fail (printf "tools.%s.enabled: it signs or logs in as the demonstration does, so it needs demo.enabled" $tool) -}}
{{- end -}}
{{- end -}}
{{- range $name, $service := $values.services -}}
{{- if and $values.tools.audit.enabled $service.database (not $service.enabled) -}}
{{- fail (printf "tools.audit.enabled: it compares all databases, so it needs services.%s.enabled" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := $values.services -}}
{{- $service := include "portolan.service" (dict "ctx" $ "component" $name) | fromYaml -}}
{{- if and $service.autoscaling.hpa.enabled $service.autoscaling.keda.enabled -}}
{{- fail (printf "services.%s.autoscaling: hpa and keda cannot both decide" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
