{{/*
A service of ours as Kubernetes objects. Takes ctx, component; templates/services/<component>.yaml calls it.
*/}}
{{- define "portolan.deployable" -}}
{{- $ctx := .ctx -}}
{{- $service := include "portolan.service" . | fromYaml -}}
{{- if $service.enabled -}}
{{- $arguments := merge (dict "files" (dict "config.toml" (include "portolan.config" .)) "service" $service) . -}}
{{ include "portolan.serviceAccount" (merge (dict "annotations" $service.serviceAccountAnnotations) .) }}
---
{{ include "portolan.configMap" $arguments }}
---
{{ include "portolan.deployment" $arguments }}
---
{{ include "portolan.k8sService" . }}
{{- if eq (include "portolan.several" $service) "true" }}
---
{{ include "portolan.pdb" $arguments }}
{{- end }}
{{- if $service.autoscaling.hpa.enabled }}
---
{{ include "portolan.hpa" $arguments }}
{{- end }}
{{- if $service.autoscaling.keda.enabled }}
---
{{ include "portolan.scaledObject" $arguments }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* Whether a service has more than one pod. Takes its values. */}}
{{- define "portolan.several" -}}
{{- if .autoscaling.hpa.enabled -}}
{{- gt (int .autoscaling.hpa.minReplicas) 1 -}}
{{- else if .autoscaling.keda.enabled -}}
{{- gt (int .autoscaling.keda.minReplicas) 1 -}}
{{- else -}}
{{- gt (int .replicas) 1 -}}
{{- end -}}
{{- end -}}

{{/* Takes ctx, component, files, service. */}}
{{- define "portolan.deployment" -}}
{{- $service := .service -}}
{{- $pod := merge (dict
  "image" .component
  "container" .component
  "args" (list "serve")
  "env" (mergeOverwrite (dict "PORTOLAN_CONFIG" "/etc/portolan/config.toml") $service.extraEnv)
  "resources" $service.resources
  "fields" (include "portolan.deployment.container" .)
  "pod" (include "portolan.deployment.pod" .)
  "annotations" (include "portolan.scrapeAnnotations" .ctx | fromYaml)) . -}}
{{- if eq .ctx.Values.migrations.mode "startup" -}}
{{- $migrate := merge (dict "container" "migrate" "args" (list "migrate")) (omit $pod "fields") -}}
{{- if $service.database -}}
{{- $_ := set $pod "before" (printf "- %s" (include "portolan.container" $migrate | nindent 2 | trim)) -}}
{{- end -}}
{{- end -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "portolan.metadata" . | nindent 2 }}
spec:
  {{- if not (or $service.autoscaling.hpa.enabled $service.autoscaling.keda.enabled) }}
  replicas: {{ $service.replicas }}
  {{- end }}
  revisionHistoryLimit: {{ $service.revisionHistoryLimit }}
  selector:
    matchLabels:
      {{- include "portolan.selectorLabels" . | nindent 6 }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  template:
    metadata:
      {{- include "portolan.podMetadata" $pod | nindent 6 }}
    spec:
      {{- include "portolan.pod" $pod | nindent 6 }}
{{- end -}}

{{/* Ports, probes and the pause before the end, of a service's container. Takes ctx, component, service. */}}
{{- define "portolan.deployment.container" -}}
ports:
  {{- range $name, $port := get (include "portolan.ports" . | fromYaml) .component }}
  - name: {{ $name }}
    containerPort: {{ $port }}
  {{- end }}
# Both ports are open before anything is waited for: a pod that waits is alive, and its readiness says what for.
startupProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 1
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- if gt (int .service.shutdown.preStopSeconds) 0 }}
lifecycle:
  preStop:
    sleep: {seconds: {{ .service.shutdown.preStopSeconds }}}
{{- end }}
{{- end -}}

{{/* Grace period and spread of a service's pods. Takes ctx, component, service. */}}
{{- define "portolan.deployment.pod" -}}
{{- $shutdown := .service.shutdown -}}
terminationGracePeriodSeconds: {{ add $shutdown.preStopSeconds (div (add $shutdown.drainMilliseconds 999) 1000) $shutdown.graceSeconds $shutdown.marginSeconds }}
{{- if .service.topologySpread.enabled }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "portolan.selectorLabels" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end -}}

{{/* For a Prometheus that goes by annotations. Takes the root context. */}}
{{- define "portolan.scrapeAnnotations" -}}
{{- if .Values.metrics.annotations -}}
prometheus.io/scrape: "true"
prometheus.io/port: "9090"
prometheus.io/path: /metrics
{{- end -}}
{{- end -}}

{{/*
The Kubernetes Service. For gRPC it is headless: its clients know all pods and spread their calls over them, where one address
would tie each client to one pod. Takes ctx, component.
*/}}
{{- define "portolan.k8sService" -}}
{{- $exposure := .ctx.Values.exposure.service -}}
{{- $ports := omit (get (include "portolan.ports" . | fromYaml) .component) "admin" -}}
{{- $public := eq .component "gateway" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "portolan.metadata" . | nindent 2 }}
  {{- if $public }}
  {{- with $exposure.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
spec:
  {{- if $public }}
  type: {{ $exposure.type }}
  {{- else if hasKey $ports "grpc" }}
  clusterIP: None
  {{- end }}
  selector:
    {{- include "portolan.selectorLabels" . | nindent 4 }}
  ports:
    {{- range $name, $port := $ports }}
    - name: {{ $name }}
      port: {{ $public | ternary $exposure.port $port }}
      targetPort: {{ $name }}
      {{- if and $public (eq $exposure.type "NodePort") $exposure.nodePort }}
      nodePort: {{ $exposure.nodePort }}
      {{- end }}
    {{- end }}
{{- end -}}

{{/* Takes ctx, component, service. */}}
{{- define "portolan.pdb" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "portolan.metadata" . | nindent 2 }}
spec:
  {{- toYaml .service.pdb | nindent 2 }}
  # A pod that is not ready serves nobody; it must not keep a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "portolan.selectorLabels" . | nindent 6 }}
{{- end -}}
