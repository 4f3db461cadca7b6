{{/*
A map as TOML: first what is a value, then a table for each map and each list of maps. JSON's scalars and lists of scalars are
valid TOML, and unlike Helm's own toToml they keep whole numbers whole. Takes table (the map), path (the keys above it).
*/}}
{{- define "portolan.toml" -}}
{{- $path := .path | default list -}}
{{- range $key, $value := .table -}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value) (eq (include "portolan.toml.isTables" $value) "true")) }}
{{ include "portolan.toml.key" $key }} = {{ toRawJson $value }}
{{- end -}}
{{- end -}}
{{- range $key, $value := .table -}}
{{- $below := append $path (include "portolan.toml.key" $key) -}}
{{- if kindIs "map" $value }}

[{{ join "." $below }}]
{{- include "portolan.toml" (dict "table" $value "path" $below) -}}
{{- else if eq (include "portolan.toml.isTables" $value) "true" -}}
{{- range $value }}

[[{{ join "." $below }}]]
{{- include "portolan.toml" (dict "table" . "path" $below) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether a value is a list of maps. */}}
{{- define "portolan.toml.isTables" -}}
{{- if kindIs "slice" . -}}
{{- if . -}}{{- kindIs "map" (first .) -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "portolan.toml.key" -}}
{{- ternary . (toRawJson .) (regexMatch "^[A-Za-z0-9_-]+$" .) -}}
{{- end -}}
