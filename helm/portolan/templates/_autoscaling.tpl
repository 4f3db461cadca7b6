{{/* Pods by the CPU use of the program, without that of its sidecar. Takes ctx, component, service. */}}
{{- define "portolan.hpa" -}}
{{- $hpa := .service.autoscaling.hpa -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "portolan.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "portolan.name" . }}
  minReplicas: {{ $hpa.minReplicas }}
  maxReplicas: {{ $hpa.maxReplicas }}
  metrics:
    - type: ContainerResource
      containerResource:
        name: cpu
        container: {{ .component }}
        target:
          type: Utilization
          averageUtilization: {{ $hpa.targetCPUPercent }}
  behavior:
    # Fewer pods move partitions and close connections: not at every dip.
    scaleDown:
      stabilizationWindowSeconds: 300
      policies:
        - {type: Pods, value: 1, periodSeconds: 60}
{{- end -}}

{{/* Pods by the lag of the consumer group (KEDA). Takes ctx, component, service. */}}
{{- define "portolan.scaledObject" -}}
{{- $keda := .service.autoscaling.keda -}}
{{- $ctx := .ctx -}}
{{- if not .service.kafka -}}
{{- fail (printf "services.%s.autoscaling.keda: it reads no topic whose lag could be followed" .component) -}}
{{- end -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "portolan.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    name: {{ include "portolan.name" . }}
  minReplicaCount: {{ $keda.minReplicas }}
  maxReplicaCount: {{ $keda.maxReplicas }}
  pollingInterval: {{ $keda.pollingInterval }}
  cooldownPeriod: {{ $keda.cooldownPeriod }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown:
          stabilizationWindowSeconds: {{ $keda.cooldownPeriod }}
          policies:
            - {type: Pods, value: 1, periodSeconds: 60}
  triggers:
    {{- range .service.kafka.consumes }}
    - type: kafka
      metadata:
        bootstrapServers: {{ include "portolan.kafka.brokers" $ctx }}
        consumerGroup: {{ $.service.kafka.group }}
        topic: {{ . }}
        lagThreshold: {{ $keda.lagThreshold | quote }}
        offsetResetPolicy: earliest
      {{- with $keda.authenticationRef }}
      authenticationRef:
        name: {{ . }}
      {{- end }}
    {{- end }}
{{- end -}}
