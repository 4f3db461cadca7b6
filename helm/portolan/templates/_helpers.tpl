{{/*
Names, labels, identities and images. Every helper that needs more than the root context takes one dict with
  ctx        the root context ($)
  component  the name of a workload without prefix: order, order-migrate, kafka, vault-configure, ...
*/}}

{{/* What stands before every name: nothing in a release called like the chart, so that names are short in the usual case. */}}
{{- define "portolan.prefix" -}}
{{- if ne .Release.Name .Chart.Name -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "the release name %q must begin with a letter, have at most 30 characters and no dot: it becomes part of DNS names and certificates" .Release.Name) -}}
{{- end -}}
{{- .Release.Name }}-
{{- end -}}
{{- end -}}

{{/* The name of a component's objects. Takes ctx, component. */}}
{{- define "portolan.name" -}}
{{- include "portolan.prefix" .ctx }}{{ .component }}
{{- end -}}

{{/* Labels of everything. Takes ctx, component. */}}
{{- define "portolan.labels" -}}
{{ include "portolan.selectorLabels" . }}
app.kubernetes.io/part-of: {{ .ctx.Chart.Name }}
app.kubernetes.io/version: {{ .ctx.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .ctx.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .ctx.Chart.Name .ctx.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The labels that selectors use; they never change. Takes ctx, component. */}}
{{- define "portolan.selectorLabels" -}}
app.kubernetes.io/name: {{ .ctx.Chart.Name }}
app.kubernetes.io/instance: {{ .ctx.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/*
Labels of pods: neither version nor chart, because a new chart alone must not restart anything. Takes ctx, component.
*/}}
{{- define "portolan.podLabels" -}}
{{ include "portolan.selectorLabels" . }}
app.kubernetes.io/part-of: {{ .ctx.Chart.Name }}
{{- end -}}

{{/* Name, namespace and labels, for under `metadata:`. Takes ctx, component, and optionally suffix for the name. */}}
{{- define "portolan.metadata" -}}
name: {{ include "portolan.name" . }}{{ .suffix }}
namespace: {{ .ctx.Release.Namespace }}
labels:
  {{- include "portolan.labels" . | nindent 2 }}
{{- end -}}

{{/* The identity in a component's certificate, and of its ServiceAccount. Takes ctx, component. */}}
{{- define "portolan.spiffeId" -}}
spiffe://{{ .ctx.Values.global.trustDomain }}/ns/{{ .ctx.Release.Namespace }}/sa/{{ include "portolan.name" . }}
{{- end -}}

{{/* The names under which a component is called, shortest first, as a YAML list. Takes ctx, component. */}}
{{- define "portolan.dnsNames" -}}
{{- $name := include "portolan.name" . -}}
{{- $namespace := .ctx.Release.Namespace -}}
- {{ $name }}
- {{ $name }}.{{ $namespace }}
- {{ $name }}.{{ $namespace }}.svc
- {{ $name }}.{{ $namespace }}.svc.{{ .ctx.Values.global.clusterDomain }}
{{- end -}}

{{/*
An image reference: the digest wins over the tag, global.imageRegistry over the host in the repository.
Takes ctx, repository, tag, digest.
*/}}
{{- define "portolan.imageReference" -}}
{{- $repository := .repository -}}
{{- with .ctx.Values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^[^/]*[.:][^/]*/" $repository "") -}}
{{- end -}}
{{- if .digest -}}
{{ $repository }}@{{ .digest }}
{{- else -}}
{{ $repository }}:{{ .tag }}
{{- end -}}
{{- end -}}

{{/* `image:` and `imagePullPolicy:` of somebody else's image. Takes ctx, image {repository, tag, digest, pullPolicy}. */}}
{{- define "portolan.image" -}}
{{- $image := .image -}}
image: {{ include "portolan.imageReference" (dict "ctx" .ctx "repository" $image.repository "tag" $image.tag "digest" $image.digest) | quote }}
imagePullPolicy: {{ $image.pullPolicy | default .ctx.Values.image.pullPolicy }}
{{- end -}}

{{/* `image:` and `imagePullPolicy:` of one of our own images. Takes ctx, name (gateway, ..., psp, cli). */}}
{{- define "portolan.ownImage" -}}
{{- $image := .ctx.Values.image -}}
{{- $repository := printf "%s/%s" (trimSuffix "/" $image.registry) .name -}}
{{- $tag := $image.tag | default .ctx.Chart.AppVersion -}}
image: {{ include "portolan.imageReference" (dict "ctx" .ctx "repository" $repository "tag" $tag "digest" (get $image.digests .name)) | quote }}
imagePullPolicy: {{ $image.pullPolicy }}
{{- end -}}
