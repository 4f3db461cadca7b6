{{/*
What every pod has in common. Nothing here or elsewhere may weaken it: the namespace enforces the restricted profile.
*/}}

{{/* Takes uid, which is also the group; 65532 is the user of the distroless images. */}}
{{- define "portolan.podSecurityContext" -}}
{{- $uid := int (.uid | default 65532) -}}
runAsNonRoot: true
runAsUser: {{ $uid }}
runAsGroup: {{ $uid }}
fsGroup: {{ $uid }}
fsGroupChangePolicy: OnRootMismatch
# For the whole pod, because containers that others inject have none.
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "portolan.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The head of every pod spec. Takes ctx, component, and optionally uid. */}}
{{- define "portolan.podBasics" -}}
{{- $global := .ctx.Values.global -}}
serviceAccountName: {{ include "portolan.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "portolan.podSecurityContext" . | nindent 2 }}
{{- with $global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $global.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $global.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $global.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The account of a component. Its token is never mounted by default. Takes ctx, component, and optionally annotations. */}}
{{- define "portolan.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "portolan.metadata" . | nindent 2 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}

{{/* Volume and mount of the root certificate that the bootstrap hook made. Take ctx. */}}
{{- define "portolan.caVolume" -}}
- name: ca
  configMap:
    name: {{ include "portolan.name" (dict "ctx" .ctx "component" "ca") }}
{{- end -}}
{{- define "portolan.caMount" -}}
- name: ca
  mountPath: /etc/portolan-ca
  readOnly: true
{{- end -}}

{{/*
Environment variables from a map, sorted by name, so that no name is there twice. A value is a scalar, or a map that
becomes `valueFrom`. Takes the map.
*/}}
{{- define "portolan.env" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  {{- if kindIs "map" $value }}
  valueFrom:
    {{- toYaml $value | nindent 4 }}
  {{- else }}
  value: {{ $value | toString | quote }}
  {{- end }}
{{- end }}
{{- end -}}
