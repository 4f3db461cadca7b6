{{/*
The values of one service: its own over the defaults of all, as YAML. Takes ctx, component.
*/}}
{{- define "portolan.service" -}}
{{- $own := deepCopy (get .ctx.Values.services .component) -}}
{{- $defaults := deepCopy .ctx.Values.defaults -}}
{{/* One of two fields: merged, both would be there. */}}
{{- if $own.pdb -}}{{- $_ := unset $defaults "pdb" -}}{{- end -}}
{{- mergeOverwrite $defaults $own | toYaml -}}
{{- end -}}
