{{/*
What the bundled infrastructure has in common. The helpers take ctx and component unless they say otherwise.
*/}}

{{/* What the bootstrap hook calls a component's certificate: keys tls.crt, tls.key, ca.crt, and bundle.pem (key and certificate). */}}
{{- define "portolan.infra.tlsSecret" -}}
{{- include "portolan.name" . }}-tls
{{- end -}}

{{/*
Volume and mount of that certificate. The mount takes path too. Secrets are owned by root: the group of the pod reads them.
*/}}
{{- define "portolan.infra.tlsVolume" -}}
- name: tls
  secret:
    secretName: {{ include "portolan.infra.tlsSecret" . }}
    defaultMode: 0440
{{- end -}}
{{- define "portolan.infra.tlsMount" -}}
- name: tls
  mountPath: {{ .path }}
  readOnly: true
{{- end -}}

{{/*
Annotations of a pod: those of all pods, and the checksum of its configuration, so that a change restarts it. Takes ctx, config
(the text of the configuration).
*/}}
{{- define "portolan.infra.podAnnotations" -}}
checksum/config: {{ .config | sha256sum }}
{{- with .ctx.Values.global.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
The claim of a StatefulSet, with the labels of a pod: the template of a claim cannot be changed, so neither version nor chart may be in it.
Takes ctx, component, storage {size, className}.
*/}}
{{- define "portolan.infra.claim" -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata:
    name: data
    labels:
      {{- include "portolan.podLabels" . | nindent 6 }}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .storage.className }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .storage.size }}
{{- end -}}

{{/* Replicas go to different nodes and zones where there are any; a pod always runs, though. */}}
{{- define "portolan.infra.spread" -}}
topologySpreadConstraints:
  {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "portolan.selectorLabels" $ | nindent 8 }}
  {{- end }}
{{- end -}}

{{/* At most one of several replicas may be away on purpose. */}}
{{- define "portolan.infra.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "portolan.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "portolan.selectorLabels" . | nindent 6 }}
{{- end -}}

{{/*
A ServiceAccount token for the API server, at the usual place; for the few pods that talk to it.
*/}}
{{- define "portolan.infra.apiTokenVolume" -}}
- name: api-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3600
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                fieldPath: metadata.namespace
{{- end -}}
{{- define "portolan.infra.apiTokenMount" -}}
- name: api-token
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- end -}}
